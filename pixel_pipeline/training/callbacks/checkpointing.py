"""Durable checkpoints by the clock, at an interruption and at the end. Imports torch."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.module import MoEModule


class Checkpointing(pl.Callback):
    """Decides when to save.

    Args:
        save: Writes a durable checkpoint of the module's present state.
        interrupted: Whether an interruption waits.
    """

    def __init__(
        self, save: Callable[[MoEModule], None], *, every_seconds: float, interrupted: Callable[[], bool]
    ) -> None:
        self._save = save
        self._every_seconds = every_seconds
        self._interrupted = interrupted
        self._saved = monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._saved = monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, MoEModule)
        due = monotonic() - self._saved >= self._every_seconds
        if due or self._interrupted() or module.steps_done == module.config.steps:
            self._save(module)
            self._saved = monotonic()
