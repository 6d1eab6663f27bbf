"""Ends a run when its held-out loss no longer falls. Imports torch."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.checkpoints.history import History


class EarlyStopping(pl.Callback):
    """A pure function of the run's validations, so a resumed run stops at the same step as an uninterrupted one.

    Args:
        patience: Validations without a better loss that end the run; None: never.
    """

    def __init__(self, history: History, *, patience: int | None, report: Callable[[str], None]) -> None:
        self._history = history
        self._patience = patience
        self._report = report

    @property
    def due(self) -> bool:
        """Whether the run must end."""
        best = self._history.best
        if self._patience is None or best is None:
            return False
        return len(self._history.validations) - 1 - self._history.validations.index(best) >= self._patience

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if self.due and not trainer.should_stop:
            best = self._history.best
            assert best is not None, "it is due"
            self._report(
                f"validation loss has not fallen below {best.loss:.3f} (step {best.step}): ending the run"
            )
            trainer.should_stop = True
