"""Dagster's local compute logs, in a terminal where someone presses Ctrl-C."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
import signal
from typing import Any, Self

from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData


class TerminalComputeLogManager(LocalComputeLogManager):
    """Stores stdout and stderr of a step locally, and keeps showing them after Ctrl-C.

    While a step is captured, helper processes mirror its output into the terminal. Dagster starts them in the terminal's
    process group, where Ctrl-C kills them with a traceback each: what the step still says (that it stores a checkpoint,
    how to go on) would reach the file alone. They inherit the signal mask, so they are started with SIGINT blocked;
    they end with the capture.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Build from dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        """Mirror this process's stdout and stderr into files."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        capture = super().capture_logs(log_key)
        try:
            captured = capture.__enter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            yield captured
        except BaseException as error:
            if not capture.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            capture.__exit__(None, None, None)
