"""Writes checkpoints by the clock, at the best validation, and at the end. Imports torch."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.loop.module import MoEModule


class Checkpointing(pl.Callback):
    """Runs last, so that callbacks which stop training have already asked for a checkpoint.

    Args:
        save: Called with the module and whether its held-out loss is the best so far.

    Attributes:
        slowest: Longest time in seconds that training waited for a checkpoint.
    """

    def __init__(self, save: Callable[..., None], *, every_seconds: float) -> None:
        self._save = save
        self._every_seconds = every_seconds
        self._saved = monotonic()
        self.slowest = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._saved = monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, MoEModule)
        step, started = module.steps_done, monotonic()
        validation = module.history.best
        best = validation is not None and validation.step == step
        due = started - self._saved >= self._every_seconds
        if due or best or trainer.should_stop or step == module.config.steps:
            self._save(module, best=best)
            self._saved = monotonic()
            self.slowest = max(self.slowest, self._saved - started)
