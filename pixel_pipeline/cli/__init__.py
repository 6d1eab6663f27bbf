"""The `pixel` command.

`PANELS` lists every verb under the heading that `pixel --help` shows; a new verb is a function in the room of its panel and a line there.
Verbs import their libraries when they run, so that help and completion do not wait for Arrow.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version
import sys
import traceback
from typing import Annotated, Any, Final

import typer

from pixel_pipeline.cli.console import Flag, say, show_error
from pixel_pipeline.cli.exit_codes import ExitCode, exit_code_table
from pixel_pipeline.cli.lake.detect import detect
from pixel_pipeline.cli.lake.families import families
from pixel_pipeline.cli.lake.ingest import ingest
from pixel_pipeline.cli.lake.quarantine import quarantine
from pixel_pipeline.cli.lake.status import status
from pixel_pipeline.cli.lake.sync import sync
from pixel_pipeline.cli.lake.vacuum import vacuum
from pixel_pipeline.cli.machine.demo import demo
from pixel_pipeline.cli.machine.doctor import doctor
from pixel_pipeline.cli.machine.s3 import s3
from pixel_pipeline.cli.machine.sample import sample
from pixel_pipeline.cli.models.chat import chat
from pixel_pipeline.cli.models.evaluate import evaluate
from pixel_pipeline.cli.models.export import export, verify_export
from pixel_pipeline.cli.models.generate import generate
from pixel_pipeline.cli.models.promote import promote
from pixel_pipeline.cli.training.base import base
from pixel_pipeline.cli.training.checkpoints import checkpoints
from pixel_pipeline.cli.training.plan import plan
from pixel_pipeline.cli.training.runs import runs
from pixel_pipeline.cli.training.train import train
from pixel_pipeline.errors import PixelError

Verb = Callable[..., None] | typer.Typer
PANELS: Final[dict[str, dict[str, Verb]]] = {
    "Start here": {"demo": demo, "doctor": doctor},
    "Data": {
        "sync": sync,
        "ingest": ingest,
        "status": status,
        "detect": detect,
        "families": families,
        "quarantine": quarantine,
    },
    "Training": {"plan": plan, "train": train, "runs": runs, "checkpoints": checkpoints, "base": base},
    "Models": {
        "chat": chat,
        "generate": generate,
        "evaluate": evaluate,
        "promote": promote,
        "export": export,
        "verify-export": verify_export,
    },
    "Maintenance": {"sample": sample, "s3": s3, "vacuum": vacuum},
}
# Typer carries its own copy of Click, or uses the installed one; its public classes lead to the base class in both cases.
_ClickError: Any = typer.BadParameter.__mro__[2]
_TRACEBACK = "--traceback"

app = typer.Typer(
    help="Pixel Pipeline: from raw conversations to mixture-of-experts checkpoints.",
    epilog=f"Exit codes:\n{exit_code_table()}",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    # A traceback with local variables would show conversations and secrets.
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"pixel {version('pixel-pipeline')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        Flag("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
    with_traceback: Annotated[
        bool, Flag(_TRACEBACK, help="Show the traceback of an unexpected error; it may quote data.")
    ] = False,
) -> None:
    # `main` reads --traceback itself: it has to know even if the options cannot be parsed.
    pass


for panel, verbs in PANELS.items():
    for name, verb in verbs.items():
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its code; errors go to stderr."""
    arguments = sys.argv[1:] if arguments is None else [*arguments]
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    try:
        code: int = app(arguments, prog_name="pixel", standalone_mode=False) or ExitCode.OK
        if code == ExitCode.INTERRUPTED:
            say("interrupted")
        return code
    except _ClickError as error:
        return _show_usage_error(error)
    except PixelError as error:
        show_error(error.message, error.hint)
        from pixel_pipeline.training.errors import TrainingInterruptedError

        return ExitCode.INTERRUPTED if isinstance(error, TrainingInterruptedError) else ExitCode.ERROR
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001
        _show_unexpected(error, arguments)
        return ExitCode.UNEXPECTED


def _show_usage_error(error: Any) -> int:
    message = error.format_message()
    verb = error.ctx.command_path if error.ctx is not None else "pixel"
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return ExitCode.ERROR
    show_error(message, f"`{verb} --help` lists the arguments and options.")
    return ExitCode.ERROR


def _show_unexpected(error: Exception, arguments: list[str]) -> None:
    """Name the error's type and place. Its message may quote a conversation or a secret, so it needs the option."""
    if _TRACEBACK in arguments:
        traceback.print_exception(error)
        return
    frame = traceback.extract_tb(error.__traceback__)[-1]
    show_error(
        f"unexpected {type(error).__name__} in {frame.filename}, line {frame.lineno}.",
        f"Run it again as `pixel {_TRACEBACK} …` to see the traceback. It may quote data: read it before you pass it on.",
    )
