"""`pixel sample`: the invented Drive that the demo works on."""

from pathlib import Path
import sys
from typing import Annotated

import typer

from pixel_pipeline.cli.console import Json, err, say
from pixel_pipeline.settings import get_settings
from pixel_pipeline.words import counted


def sample(
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to. Default: the demo's Drive, PIXEL_HOME/drive.")
    ] = None,
    conversations: Annotated[int, typer.Option(min=150, help="Number of conversations.")] = 5000,
    as_json: Json = False,
) -> None:
    """Write a folder of invented counselling conversations.

    Some files have planted errors. Equal seeds (PIXEL_SEED) give equal files.
    """
    from pixel_pipeline.sample.drive import write_sample_drive

    settings = get_settings()
    folder = output or settings.home / "drive"
    with err.status(f"writing the sample Drive to {folder}"):
        manifest = write_sample_drive(folder, seed=settings.seed, conversations=conversations)
    content = manifest.to_json()
    if output is None:
        (settings.home / "sample.json").write_text(content)
    if as_json:
        sys.stdout.write(content + "\n")
        return
    say(f"sample Drive: {folder}, {counted(len(manifest.files), 'file')}, seed {settings.seed}")
