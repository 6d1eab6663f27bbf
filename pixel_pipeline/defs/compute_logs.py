"""Dagster's local compute logs, kept running after Ctrl-C in a terminal."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
import signal
from typing import Any, Self

# Dagster has no public names for compute log managers; its own documentation names these modules in dagster.yaml.
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData


class TerminalComputeLogManager(LocalComputeLogManager):
    """Stores stdout and stderr of a step locally, and shows them in the terminal even after Ctrl-C.

    Helper processes copy the output of a captured step to the terminal. Dagster starts them in the terminal's process group, where Ctrl-C
    would kill them, so that the step's last lines (the stored checkpoint, the command to continue) reached the file only. The helpers
    inherit the signal mask, so SIGINT is blocked while they start. They end with the capture.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Build from dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        """Copy this process's stdout and stderr to files."""
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
