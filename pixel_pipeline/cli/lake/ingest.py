"""`pixel ingest`: copy local files into the raw tier."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pixel_pipeline.cli.console import Json, print_json, say, suggest_next, transfer_bar
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings
from pixel_pipeline.words import counted


def ingest(
    path: Annotated[Path, typer.Argument(help="Folder or file to copy.")],
    name: Annotated[
        str | None,
        typer.Option("--as", help="Folder under `acquired/` to copy into. Default: `acquired/` itself."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy files of this machine into the lake.

    They are stored in the raw tier under `acquired/`; the job `prepare_data` converts them. Unchanged files are not copied again.

    \b
    Examples:
      pixel ingest ~/exports
      pixel ingest sessions.jsonl --as clinic
    """
    from pixel_pipeline.lake import keys
    from pixel_pipeline.lake.lake import Lake
    from pixel_pipeline.sync.ingest import copy_to_lake

    if not path.exists():
        raise PixelError(f"There is nothing at {path}.", hint="Give the path of a folder or a file.")
    prefix = keys.ACQUIRED if name is None else f"{keys.ACQUIRED}/{name.strip('/')}"
    lake = Lake.open(get_settings())
    lake.check()
    with transfer_bar(f"copying {path}") as update:
        report = copy_to_lake(path, lake=lake, prefix=prefix, report=update)
    if as_json:
        print_json(asdict(report))
        return
    say(
        f"{counted(report.copied, 'object')} copied to {report.destination}, {report.checked - report.copied:,} unchanged"
    )
    suggest_next("dagster job execute -j prepare_data")
