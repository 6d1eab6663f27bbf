"""Progress lines. Imports torch."""

from collections.abc import Callable
from math import isfinite, nan
from time import monotonic
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.loop.callbacks.throughput import Throughput
from pixel_pipeline.training.loop.module import MoEModule


class Progress(pl.Callback):
    """Reports the first and the last step, and at most one line every `every_seconds` between them.

    Loss and speed cover the time since the previous line; the time left includes validations and checkpoints at their rate so far.
    """

    def __init__(
        self,
        history: History,
        *,
        throughput: Throughput,
        report: Callable[[str], None],
        every_seconds: float,
    ) -> None:
        self._history = history
        self._throughput = throughput
        self._done = 0
        self._report = report
        self._every_seconds = every_seconds
        self._began = self._reported = monotonic()
        self._tokens, self._seconds, self._steps = 0, 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._mark()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if self._done == 0:
            # Excludes the validation before the first step from the rate.
            self._began = monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, MoEModule)
        now, step, steps = monotonic(), module.steps_done, module.config.steps
        self._done += 1
        last = step == steps or trainer.should_stop
        if self._done > 1 and not last and now - self._reported < self._every_seconds:
            return
        new = [loss for loss in self._history.losses[self._steps :] if isfinite(loss)]
        tokens_per_second = (self._history.tokens - self._tokens) / max(
            self._history.seconds - self._seconds, 1e-9
        )
        left = (now - self._began) / self._done * (steps - step)
        loss = sum(new) / len(new) if new else nan
        mfu = self._throughput.mfu(tokens_per_second)
        self._report(
            f"step {step}/{steps}  loss {loss:.2f}  {tokens_per_second:,.0f} tokens/s"
            f"{f'  MFU {mfu:.0%}' if mfu is not None else ''}  {format_duration(left)} left"
        )
        self._reported = now
        self._mark()

    def _mark(self) -> None:
        self._tokens, self._seconds = self._history.tokens, self._history.seconds
        self._steps = len(self._history.losses)


def format_duration(seconds: float) -> str:
    """`0:42`, `12:05` or `3:01:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
