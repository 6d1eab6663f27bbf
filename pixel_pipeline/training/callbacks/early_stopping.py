"""Ends a run whose held-out loss no longer falls. Imports torch."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.history import History


class EarlyStopping(pl.Callback):
    """A pure function of the run's validations, so a resumed run stops where an uninterrupted one does.

    Args:
        patience: Validations without a better loss than the best before them; None: never stop.
    """

    def __init__(self, history: History, *, patience: int | None, report: Callable[[str], None]) -> None:
        self._history = history
        self._patience = patience
        self._report = report
        self.stopped = False

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        best = self._history.best
        if self._patience is None or best is None or self.stopped:
            return
        since = len(self._history.validations) - 1 - self._history.validations.index(best)
        if since >= self._patience:
            self.stopped = True
            self._report(
                f"validation loss has not fallen below {best.loss:.3f} (step {best.step}) for {since} validations: ending the run"
            )
            trainer.should_stop = True
