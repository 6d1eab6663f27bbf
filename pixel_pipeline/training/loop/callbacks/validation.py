"""Held-out loss at step 0, at the end, and at steps in between. Imports torch."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.checkpoints.history import History, Validation
from pixel_pipeline.training.data.dataset import ShardDataset
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.loop.scoring import score_families


class HeldOutLoss(pl.Callback):
    """Scores the same rows each time. A resumed run repeats a validation that was interrupted.

    Args:
        rows: Row indices of each family.
        stopping: Whether an interruption is pending, which ends the validation.
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
        score = score_families(module.trained, self._dataset, rows=self._rows, stop=self._stopping)
        if score is None:
            return
        families = {name: family.loss for name, family in score.families.items()}
        self._history.validations.append(Validation(step=step, loss=score.loss, families=families))
        self._report(f"step {step}/{module.config.steps}  validation loss {score.loss:.2f}")
