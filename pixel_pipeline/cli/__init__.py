"""The `pixel` command. Commands import what they need when they run: `--help` is not to wait for Arrow."""

import sys

import typer

from pixel_pipeline.cli.base import base
from pixel_pipeline.cli.chat import chat
from pixel_pipeline.cli.console import EXIT_ERROR, EXIT_INTERRUPTED, err
from pixel_pipeline.cli.data import ingest, sample, status
from pixel_pipeline.cli.demo import demo
from pixel_pipeline.cli.detect import detect
from pixel_pipeline.cli.doctor import doctor
from pixel_pipeline.cli.export import export, verify_export
from pixel_pipeline.cli.families import families
from pixel_pipeline.cli.generate import generate
from pixel_pipeline.cli.quarantine import quarantine
from pixel_pipeline.cli.s3 import s3
from pixel_pipeline.cli.sync import sync
from pixel_pipeline.cli.tables import vacuum
from pixel_pipeline.cli.train import plan, train
from pixel_pipeline.errors import PixelError

app = typer.Typer(
    help="Pixel Pipeline: raw conversations to mixture-of-experts checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with local variables would show conversations and secrets.
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    doctor,
    sample,
    ingest,
    sync,
    status,
    detect,
    plan,
    train,
    generate,
    chat,
    export,
    vacuum,
):
    app.command()(command)
app.command("verify-export")(verify_export)
app.add_typer(base, name="base")
app.add_typer(families, name="families")
app.add_typer(quarantine, name="quarantine")
app.add_typer(s3, name="s3")


def main() -> None:
    """Entry point: our own errors are told in a line or two, on stderr, with exit code 1."""
    try:
        app()
    except PixelError as error:
        err.print(f"[red]{type(error).__name__}[/red]: ", end="")
        err.print(str(error), markup=False)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(EXIT_INTERRUPTED)
