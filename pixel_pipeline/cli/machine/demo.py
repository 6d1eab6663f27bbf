"""`pixel demo`: the whole pipeline on invented samples."""

import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pixel_pipeline.cli.console import Flag, err, out, say, suggest_next
from pixel_pipeline.cli.exit_codes import ExitCode
from pixel_pipeline.cli.lake.status import show_status
from pixel_pipeline.cli.machine.sample import sample
from pixel_pipeline.cli.models.export import ExportDtype, export, verify_export
from pixel_pipeline.cli.training.base import base_add
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
        Flag(
            "--chat",
            help="Train LoRA experts on SmolLM2-135M instead of a tiny model, export them as a Mixtral, and chat with it. "
            "Takes 10 minutes on two cores and downloads 100 MB.",
        ),
    ] = False,
) -> None:
    """Run the whole pipeline on invented samples.

    Syncs, converts, trains and evaluates in three to six minutes on two cores. Run it again to continue an interrupted demo.
    """
    from pixel_pipeline.lake.lake import Lake

    settings = get_settings()
    if not settings.uses_embedded_s3:
        raise PixelError(
            "`pixel demo` fills a lake with invented samples, but an S3 endpoint or key is configured.",
            hint="Unset PIXEL_S3_ENDPOINT and the credential variables to run it on the embedded server.",
        )
    # The demo uses its own Drive, profile and data, regardless of other settings.
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
        if _run_job(job, environment) != 0:
            raise PixelError(
                f"The job {job} failed.", hint="Run the demo again to continue where it stopped."
            )
    err.print()
    if chat:
        _export_and_talk(lake, folder=settings.home / "exports" / "demo-chat")
        return
    show_status()
    err.print()
    suggest_next("make ui")
    say("      shows the graph, the plots and every run in the browser")
    suggest_next('. .venv/bin/activate && pixel generate latest --prompt "I cannot sleep."')
    say("      answers a prompt with the new model")


def _export_and_talk(lake: "Lake", *, folder: Path) -> None:
    """Export the newest checkpoint as a Mixtral, verify it, and print its answers to two messages."""
    if folder.exists():
        # Left by an earlier demo.
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
    err.print()
    suggest_next(f"pixel chat {folder}")


def _dagster_environment() -> dict[str, str]:
    """The variables that scripts/environment.sh sets, for shells that were not activated."""
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
    interrupted = False
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal sends Ctrl-C to the job as well; wait until it has shut down.
            interrupted = True
            say("interrupting …")
        else:
            if interrupted:
                raise typer.Exit(ExitCode.INTERRUPTED)
            return code
