"""How a training process reports to its host: Dagster through Pipes, or a terminal. Torch-free."""

from collections.abc import Callable, Mapping
from pathlib import Path
import signal
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

from dagster_pipes import PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes

from pixel_pipeline.errors import PixelError
from pixel_pipeline.training.errors import TrainingInterruptedError
from pixel_pipeline.training.runtime.environment import prepare_environment

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_UNEXPECTED = 1
LONGEST_MESSAGE = 300


class Host:
    """A terminal: lines go to stderr, and nothing is materialized."""

    extras: Mapping[str, Any] | None = None

    def task(self, *, verb: str) -> Mapping[str, Any]:
        """The work that Dagster passes to this process.

        Args:
            verb: The command that does the same in a terminal.

        Raises:
            PixelError: the process was not started by Dagster.
        """
        if self.extras is None:
            raise PixelError("Dagster starts this process.", hint=f"In a terminal, run `{verb}`.")
        return self.extras

    def report(self, line: str) -> None:
        """Show one line at once."""
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    def fail(self, message: str, *, status: int, transient: bool = False) -> int:
        """Report the error that ends the process, and return the exit status.

        Args:
            status: Exit status for a terminal.
            transient: Another attempt may succeed.
        """
        self.report(message)
        return status

    def materialize(self, *, metadata: Mapping[str, Any], data_version: str) -> None:
        """Report the result. A terminal has seen it line by line."""

    def send(self, message: Mapping[str, Any]) -> None:
        """Pass plain types to the parent process. A terminal has seen them line by line."""


class DagsterHost(Host):
    """A Dagster run: lines become log events, and `extras` holds the configuration."""

    def __init__(self, context: PipesContext) -> None:
        self._context = context
        self.extras = context.extras

    def report(self, line: str) -> None:
        self._context.log.info(line)

    def fail(self, message: str, *, status: int, transient: bool = False) -> int:
        # With any other status, Pipes clients discard the messages and fail the step with the status alone.
        self.send({"failure": message, "transient": transient})
        if status == EXIT_INTERRUPTED:
            # If Dagster itself interrupts the process, it does not read the messages.
            self._context.log.warning(message)
        return 0

    def materialize(self, *, metadata: Mapping[str, Any], data_version: str) -> None:
        self._context.report_asset_materialization(metadata=metadata, data_version=data_version)

    def send(self, message: Mapping[str, Any]) -> None:
        self._context.report_custom_message({**message})


def run_hosted(body: Callable[[Host], None]) -> int:
    """Run the body and return the exit status of the process.

    In a terminal: 0, 2 for a `PixelError`, 130 after an interruption; other exceptions propagate. Under Dagster always 0: the error is a
    message that fails the step.
    """
    prepare_process()
    if not PipesEnvVarParamsLoader().is_dagster_pipes_process():  # type: ignore[no-untyped-call]
        return _run(body, Host())
    with open_dagster_pipes() as context:
        host = DagsterHost(context)
        try:
            return _run(body, host)
        except Exception as error:  # noqa: BLE001  reported as the cause of the step's failure
            traceback.print_exc()
            return host.fail(unexpected(error), status=EXIT_UNEXPECTED)


def unexpected(error: Exception) -> str:
    """Headline for an exception that is not a `PixelError`: its type, and its message if that cannot quote the data."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "pixel_pipeline" in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    # Raised by the system, and by torch for the device.
    known = isinstance(error, OSError | RuntimeError | MemoryError)
    message = str(error).partition("\n")[0][:LONGEST_MESSAGE] if known else ""
    cause = ": ".join(part for part in (type(error).__name__, message) if part)
    return f"Unexpected error in {place}: {cause}\nThe step's stderr has the traceback."


def prepare_process() -> None:
    """Set up a process that may train: its environment, and SIGTERM as an interrupt."""
    # The import of torch takes seconds; a SIGTERM during it ends like Ctrl-C, not with a bare -15.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    prepare_environment()


def _run(body: Callable[[Host], None], host: Host) -> int:
    try:
        body(host)
    except TrainingInterruptedError as error:
        return host.fail(str(error), status=EXIT_INTERRUPTED)
    except PixelError as error:
        return host.fail(str(error), status=EXIT_ERROR, transient=error.transient)
    except KeyboardInterrupt:
        return host.fail("Interrupted. Nothing half-written is visible.", status=EXIT_INTERRUPTED)
    return 0


def _raise_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
