"""`pixel demo`: the whole graph on invented samples."""

import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pixel_pipeline.cli.base import base_add
from pixel_pipeline.cli.console import err, out
from pixel_pipeline.cli.data import sample, show_status
from pixel_pipeline.cli.export import ExportDtype, export, verify_export
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings, project_root

if TYPE_CHECKING:
    from pixel_pipeline.lake.lake import Lake

BASE = "smollm2"
MESSAGES = (
    "I cannot sleep since my father died.",
    "I feel anxious before every meeting at work. What could I do?",
)
DEMO_JOBS = ("sync_raw", "prepare_data", "train_moe")


def demo(
    chat: Annotated[
        bool,
        typer.Option(
            "--chat",
            help="Train LoRA experts on SmolLM2-135M in place of a tiny model, export them as a Mixtral, and talk to it: "
            "10 minutes on two cores, 100 MB to download.",
        ),
    ] = False,
) -> None:
    """Write the sample Drive, sync it, prepare it, train on it. What has not changed is not done again."""
    from pixel_pipeline.lake.lake import Lake

    settings = get_settings()
    if not settings.uses_embedded_s3:
        raise PixelError(
            "`pixel demo` fills a lake with invented samples, and an S3 endpoint or key of yours is configured.",
            hint="Unset PIXEL_S3_ENDPOINT and the credential variables to run it on the embedded server.",
        )
    # The demo's own Drive, profile and data, whatever else is configured.
    environment = _dagster_environment() | {
        "PIXEL_PROFILE": "chat" if chat else "demo",
        "PIXEL_BASE_MODEL": BASE if chat else "",
        "PIXEL_PRIORITY": "",
        "PIXEL_CURRICULUM_FILE": "",
        "PIXEL_SEQUENCE_LENGTH": "",
        "PIXEL_DRIVE_REMOTE": str(settings.home / "drive"),
    }
    sample(output=None, conversations=5000, as_json=False)
    with err.status("starting the embedded S3 server"):
        lake = Lake.open(settings)
    if chat:
        base_add(BASE, name=None, licence=None, as_json=False)
    for job in DEMO_JOBS:
        err.print(f"\n[bold]dagster job execute -j {job}[/bold]")
        code = _run_job(job, environment)
        if code != 0:
            err.print(
                f"[red]The job {job} did not succeed.[/red] Run the demo again to go on from where it stopped."
            )
            raise typer.Exit(code)
    err.print()
    if chat:
        _export_and_talk(lake, folder=settings.home / "exports" / "demo-chat")
        return
    show_status()
    err.print(
        "\nNext: [bold]make ui[/bold] shows the graph, the plots and every run in the browser;\n"
        '      [bold]. .venv/bin/activate && pixel generate latest --prompt "I cannot sleep."[/bold] talks to the model.'
    )


def _export_and_talk(lake: "Lake", *, folder: Path) -> None:
    """The newest checkpoint as a Mixtral, proven to be the same model, and what it says."""
    if folder.exists():
        # Of an earlier demo; ours to replace.
        shutil.rmtree(folder)
    err.print("\n[bold]pixel export latest[/bold]")
    export("latest", folder, dtype=ExportDtype.fp32)
    err.print("\n[bold]pixel verify-export[/bold]")
    verify_export(folder)
    from pixel_pipeline.training.inference.chat import Conversation
    from pixel_pipeline.training.inference.generate import Sampling, open_speaker

    conversation = Conversation(
        open_speaker(str(folder), lambda: lake),
        Sampling(max_new_tokens=100, temperature=0.7, top_p=0.9, seed=0),
    )
    for message in MESSAGES:
        err.print(f"\n[bold]you>[/bold] {message}")
        for piece in conversation.say(message):
            out.print(piece, end="", markup=False, soft_wrap=True)
        out.print()
    err.print(f"\nNext: [bold]pixel chat {folder}[/bold]")


def _dagster_environment() -> dict[str, str]:
    """What scripts/environment.sh gives an activated shell, for those who call `pixel` by its path."""
    settings = get_settings()
    storage = settings.home / "dagster"
    storage.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "DAGSTER_HOME": str(project_root()),
        "DAGSTER_CLI_JOB_EXECUTE_MODULE_NAME": "pixel_pipeline.definitions",
        "DAGSTER_CLI_JOB_EXECUTE_CONFIG": str(project_root() / "scripts" / "console.yaml"),
        "PIXEL_DAGSTER_STORAGE": str(storage),
        "PIXEL_HOME": str(settings.home),
    }


def _run_job(job: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "job", "execute", "-j", job]
    process = subprocess.Popen(command, env=environment, cwd=project_root())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has sent Ctrl-C to the job as well; it ends in good order, and its exit code is ours.
            err.print("interrupting …")
