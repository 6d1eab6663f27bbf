"""Reports dead experts, and their return. Imports torch."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.model.router_health import RouterHealth, mean_health, router_health

# Load is averaged over this many steps, because the few rows of a step may miss an expert.
EVERY_STEPS = 20


class RouterWatch(pl.Callback):
    """Averages the load of experts over the last micro-batches of 20 steps at a time."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._seen: list[RouterHealth] = []
        self._dead: list[tuple[int, int]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, MoEModule)
        last = module.last
        if not last.router_logits:
            return
        self._seen.append(
            router_health(last.router_logits, real=last.real, top_k=module.trained.experts_per_token)
        )
        if len(self._seen) < EVERY_STEPS:
            return
        dead = mean_health(self._seen).dead_experts()
        self._seen = []
        if dead != self._dead:
            named = ", ".join(f"layer {layer} expert {expert}" for layer, expert in dead[:4])
            more = f" and {len(dead) - 4} more" if len(dead) > 4 else ""
            self._report(
                f"step {module.steps_done}: {len(dead)} experts receive hardly any tokens: {named}{more}"
                if dead
                else f"step {module.steps_done}: every expert is in use again"
            )
            self._dead = dead
