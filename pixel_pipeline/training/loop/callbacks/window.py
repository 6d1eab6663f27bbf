"""Ends training before the window of time is over. Imports torch."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import lightning.pytorch as pl


class Window(pl.Callback):
    """Ends training early enough for a last checkpoint, from which the next window continues.

    Lightning's `max_time` counts over resumed runs, which would leave a second window without steps.

    Args:
        deadline: By `time.monotonic`; None: no limit.
        reserve: Seconds that the end of the window needs, as known now.
    """

    def __init__(
        self, deadline: float | None, *, reserve: Callable[[], float], report: Callable[[str], None]
    ) -> None:
        self._deadline = deadline
        self._reserve = reserve
        self._report = report
        self.over = False

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if self._deadline is None or self.over:
            return
        left, needed = self._deadline - monotonic(), self._reserve()
        if left < needed:
            self.over = True
            self._report(
                f"the window ends in {max(left, 0):.0f} s and its last steps need {needed:.0f} s: saving a checkpoint"
            )
            trainer.should_stop = True
