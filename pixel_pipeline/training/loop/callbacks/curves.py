"""Curves for TensorBoard, W&B or MLflow. Imports torch."""

from time import monotonic
from typing import Any

import lightning.pytorch as pl

from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.loop.callbacks.throughput import Throughput
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.model.router_health import router_health


class Curves(pl.Callback):
    """Logs loss, learning rate, gradient norm, speed, router health and validations every few seconds."""

    def __init__(self, history: History, *, throughput: Throughput, every_seconds: float) -> None:
        self._history = history
        self._throughput = throughput
        self._every_seconds = every_seconds
        self._logged = 0.0
        self._tokens, self._seconds = history.tokens, history.seconds
        self._validations = 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, MoEModule)
        now, history = monotonic(), self._history
        if not trainer.loggers:
            return
        metrics: dict[str, float] = {}
        if now - self._logged >= self._every_seconds or trainer.should_stop:
            self._logged = now
            metrics |= self._step_metrics(module)
        for validation in history.validations[self._validations :]:
            metrics["validation/loss"] = validation.loss
            metrics |= {f"validation/{family}": loss for family, loss in validation.families.items()}
        self._validations = len(history.validations)
        if metrics:
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=module.steps_done)

    def _step_metrics(self, module: MoEModule) -> dict[str, float]:
        last, history = module.last, self._history
        seconds = history.seconds - self._seconds
        tokens_per_second = (history.tokens - self._tokens) / seconds if seconds else 0.0
        self._tokens, self._seconds = history.tokens, history.seconds
        metrics = {
            "train/loss": last.loss,
            "train/learning_rate": last.learning_rate,
            "train/gradient_norm": last.gradient_norm,
            "train/tokens": float(history.tokens),
            "speed/tokens_per_second": tokens_per_second,
            "guard/skipped_steps": float(len(history.skipped)),
        }
        mfu = self._throughput.mfu(tokens_per_second)
        if mfu is not None:
            metrics["speed/mfu"] = mfu
        if last.router_logits:
            health = router_health(last.router_logits, real=last.real, top_k=module.trained.experts_per_token)
            metrics["router/dead_experts"] = float(len(health.dead_experts()))
            metrics["router/load_entropy"] = float(health.load_entropy_L.mean())
            metrics["router/entropy"] = float(health.entropy_L.mean())
            for expert, share in enumerate(health.load_LE.mean(0).tolist()):
                metrics[f"router/load_expert_{expert}"] = share
        return metrics
