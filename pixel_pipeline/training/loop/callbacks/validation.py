"""Held-out loss at step 0, at the end, and a few times between. Imports torch."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.checkpoints.history import History, Validation
from pixel_pipeline.training.data.dataset import ShardDataset
from pixel_pipeline.training.evaluation.scoring import score_families
from pixel_pipeline.training.loop.module import MoEModule


class HeldOutLoss(pl.Callback):
    """Scores the same rows each time; a resumed run makes up for a validation that its interruption cut short.

    Args:
        rows: Row indices of each family.
        stopping: Whether an interruption waits; then validation is abandoned.

    Attributes:
        slowest: Seconds that a validation took at most.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        *,
        rows: dict[str, list[int]],
        history: History,
        report: Callable[[str], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._dataset = dataset
        self._rows = rows
        self._history = history
        self._report = report
        self._stopping = stopping
        self.slowest = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._validate_if_due(module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self._validate_if_due(module)

    def _validate_if_due(self, module: pl.LightningModule) -> None:
        assert isinstance(module, MoEModule)
        step = module.steps_done
        if step not in module.config.validation_steps():
            return
        if any(validation.step == step for validation in self._history.validations):
            return
        started = monotonic()
        score = score_families(module.trained, self._dataset, rows=self._rows, stop=self._stopping)
        if score is None:
            return
        self.slowest = max(self.slowest, monotonic() - started)
        families = {name: family.loss for name, family in score.families.items()}
        self._history.validations.append(Validation(step=step, loss=score.loss, families=families))
        self._report(f"step {step}/{module.config.steps}  validation loss {score.loss:.2f}")
