"""Measures the speed of steps. Imports torch."""

from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch

from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.model.cost import H100_PEAK_FLOPS
from pixel_pipeline.training.model.trained_model import TrainedModel


class Throughput(pl.Callback):
    """Adds the time of each step to the run's history, without validation and checkpoints.

    Attributes:
        flops_per_token: Of forward and backward, as counted by `cost`.
        seconds: Of each step of this process.
        slowest_step: Seconds of the slowest step of this process, except its first.
    """

    def __init__(self, history: History, *, model: TrainedModel, length: int) -> None:
        self._history = history
        self._started = 0.0
        self._cuda = model.device.type == "cuda"
        self.flops_per_token = model.flops_per_token(length)
        self.seconds: list[float] = []
        self.slowest_step = 0.0

    def mfu(self, tokens_per_second: float) -> float | None:
        """Model FLOPs utilization of an H100's bf16 peak without sparsity; None on a CPU."""
        return tokens_per_second * self.flops_per_token / H100_PEAK_FLOPS if self._cuda else None

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self._started = perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self.seconds.append(perf_counter() - self._started)
        self._history.seconds += self.seconds[-1]
        if len(self.seconds) > 1:
            self.slowest_step = max(self.slowest_step, self.seconds[-1])
