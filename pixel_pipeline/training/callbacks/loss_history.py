"""Records every step's loss, tokens and time. Imports torch."""

from time import perf_counter
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.errors import TrainingDivergedError
from pixel_pipeline.training.history import History
from pixel_pipeline.training.module import MoEModule


class LossHistory(pl.Callback):
    """Appends to the run's history after each step, and ends a run whose loss is no finite number."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._started = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self._started = perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, MoEModule)
        loss = float(module.last_loss)
        if not abs(loss) < float("inf"):
            raise TrainingDivergedError(
                f"The loss is {loss} at step {module.steps_done}.",
                hint="Lower the learning rate or lengthen the warm-up, then train again.",
            )
        self._history.losses.append(loss)
        self._history.tokens += module.last_tokens
        self._history.seconds += perf_counter() - self._started
