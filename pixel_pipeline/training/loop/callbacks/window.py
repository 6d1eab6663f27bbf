"""A window of time that training has to leave the machine in. Imports torch."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import lightning.pytorch as pl


class Window(pl.Callback):
    """Ends training in time for a last checkpoint; the next window goes on from there.

    The deadline is this process's own: Lightning's `max_time` counts over resumed runs, so that a second window would have
    no steps. It is kept by a clock that nobody sets.

    Args:
        deadline: Of `time.monotonic`; None: no end.
        reserve: Seconds that the next step and the last checkpoint need, as known now.
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
                f"the window ends in {max(left, 0):.0f} s and the end of the run needs {needed:.0f} s: saving a checkpoint"
            )
            trainer.should_stop = True
