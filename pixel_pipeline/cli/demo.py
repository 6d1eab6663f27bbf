"""`pixel demo`: the whole graph on invented samples."""

import os
import subprocess
import sys

import typer

from pixel_pipeline.cli.console import err
from pixel_pipeline.cli.data import sample, show_status
from pixel_pipeline.errors import PixelError
from pixel_pipeline.settings import get_settings, project_root

DEMO_JOBS = ("sync_raw", "prepare_data", "train_moe")


def demo() -> None:
    """Write the sample Drive, sync it, prepare it, train on it. What has not changed is not done again."""
    from pixel_pipeline.lake.store import Lake

    settings = get_settings()
    if not settings.uses_embedded_s3:
        raise PixelError(
            "`pixel demo` fills a lake with invented samples, and an S3 endpoint or key of yours is configured.",
            hint="Unset PIXEL_S3_ENDPOINT and the credential variables to run it on the embedded server.",
        )
    # The demo's own Drive and CPU profile, whatever else is configured.
    environment = _dagster_environment() | {
        "PIXEL_PROFILE": "demo",
        "PIXEL_DRIVE_REMOTE": str(settings.home / "drive"),
    }
    sample(output=None, conversations=5000, as_json=False)
    with err.status("starting the embedded S3 server"):
        Lake.open(settings)
    for job in DEMO_JOBS:
        err.print(f"\n[bold]dagster job execute -j {job}[/bold]")
        code = _run_job(job, environment)
        if code != 0:
            err.print(
                f"[red]The job {job} did not succeed.[/red] Run the demo again to go on from where it stopped."
            )
            raise typer.Exit(code)
    err.print()
    show_status()
    err.print(
        "\nNext: [bold]make ui[/bold] shows the graph, the plots and every run in the browser;\n"
        '      [bold]. .venv/bin/activate && pixel generate latest --prompt "I cannot sleep."[/bold] talks to the model.'
    )


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
