"""How a training process reports to its host: Dagster through Pipes, or a terminal. Torch-free."""

from collections.abc import Callable, Mapping
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from dagster_pipes import PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes

from pixel_pipeline.errors import PixelError
from pixel_pipeline.training.errors import TrainingInterruptedError
from pixel_pipeline.training.runtime.environment import prepare_environment

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class Host:
    """A terminal: lines go to stderr, nothing is materialized."""

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

    def fail(self, message: str) -> None:
        """Show why the process ends."""
        self.report(message)

    def materialize(self, *, metadata: Mapping[str, Any], data_version: str) -> None:
        """Tell what was made. In a terminal the lines have said it."""

    def tell(self, message: Mapping[str, Any]) -> None:
        """Pass plain types on to whoever started the process. In a terminal the lines have said it."""


class DagsterHost(Host):
    """A Dagster run: lines become log events, `extras` hold the configuration."""

    def __init__(self, context: PipesContext) -> None:
        self._context = context
        self.extras = context.extras

    def report(self, line: str) -> None:
        self._context.log.info(line)

    def fail(self, message: str) -> None:
        self._context.log.error(message)

    def materialize(self, *, metadata: Mapping[str, Any], data_version: str) -> None:
        self._context.report_asset_materialization(metadata=metadata, data_version=data_version)

    def tell(self, message: Mapping[str, Any]) -> None:
        self._context.report_custom_message({**message})


def run_hosted(body: Callable[[Host], None]) -> int:
    """Run the body and return the process's exit status: 0, 2 for a PixelError, 130 when interrupted.

    Expected errors are shown as their message alone. Anything else propagates: Pipes passes it on, the process ends with 1.
    """
    prepare_process()
    if not PipesEnvVarParamsLoader().is_dagster_pipes_process():  # type: ignore[no-untyped-call]
        return _run(body, Host())
    with open_dagster_pipes() as context:
        return _run(body, DagsterHost(context))


def prepare_process() -> None:
    """Set up a process that may train: its environment, and SIGTERM as an interrupt."""
    # The import of torch takes seconds; a SIGTERM during it ends like Ctrl-C, not with a bare -15.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    prepare_environment()


def _run(body: Callable[[Host], None], host: Host) -> int:
    try:
        body(host)
    except TrainingInterruptedError as error:
        host.fail(str(error))
        return EXIT_INTERRUPTED
    except PixelError as error:
        host.fail(str(error))
        return EXIT_ERROR
    except KeyboardInterrupt:
        host.fail("Interrupted; nothing was left half-written.")
        return EXIT_INTERRUPTED
    return 0


def _raise_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
