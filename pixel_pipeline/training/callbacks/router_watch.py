"""Says when experts die, and when they come back. Imports torch."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.model.router_health import router_health
from pixel_pipeline.training.module import MoEModule

# Looking costs a copy from the GPU; experts do not die within a few steps.
EVERY_STEPS = 20


class RouterWatch(pl.Callback):
    """Looks at the last micro-batch of every 20th step."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._dead: list[tuple[int, int]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, MoEModule)
        last = module.last
        if module.steps_done % EVERY_STEPS or not last.router_logits:
            return
        health = router_health(last.router_logits, real=last.real, top_k=module.trained.experts_per_token)
        dead = health.dead_experts()
        if dead != self._dead:
            named = ", ".join(f"layer {layer} expert {expert}" for layer, expert in dead[:4])
            more = f" and {len(dead) - 4} more" if len(dead) > 4 else ""
            self._report(
                f"step {module.steps_done}: {len(dead)} experts get hardly a token: {named}{more}"
                if dead
                else f"step {module.steps_done}: every expert is in use again"
            )
            self._dead = dead
