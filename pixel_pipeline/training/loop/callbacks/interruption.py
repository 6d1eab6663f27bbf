"""SIGINT and SIGTERM end training after the current step, with a checkpoint. Imports torch."""

from collections.abc import Callable
import signal
from types import FrameType
from typing import Any

import lightning.pytorch as pl

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(pl.Callback):
    """Stops the trainer after the step; the checkpoint callback, which runs later, saves.

    Further signals are ignored: on Ctrl-C both the terminal and the orchestrator send one, and the checkpoint must be finished.
    SIGKILL still ends the process at once, and loses the work since the last checkpoint.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._previous: dict[signal.Signals, Any] = {}
        self.requested = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Replaces Lightning's own handlers, which would end the process with status 0.
        self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if self.requested:
            self._report("interrupted: saving a checkpoint of the steps done")
            trainer.should_stop = True

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
