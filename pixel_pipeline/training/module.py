"""The Lightning module: losses, optimizer, learning rate. Imports torch."""

from collections.abc import Callable
from math import cos, pi

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
import torch
from torch import Tensor
from transformers import MixtralForCausalLM

from pixel_pipeline.training.config import TrainingConfig
from pixel_pipeline.training.losses import linear_cross_entropy, load_balancing_loss
from pixel_pipeline.training.packing import PackedBatch
from pixel_pipeline.training.scoring import hidden_and_routing
from pixel_pipeline.training.state import OptimizerState

ADAM_BETAS = (0.9, 0.95)


def learning_rate_factor(config: TrainingConfig) -> Callable[[int], float]:
    """Share of the peak learning rate as a function of steps done: linear warm-up, then cosine to the least share."""

    def factor(steps_done: int) -> float:
        if steps_done < config.warmup_steps:
            return (steps_done + 1) / (config.warmup_steps + 1)
        progress = (steps_done - config.warmup_steps) / max(config.steps - 1 - config.warmup_steps, 1)
        least = config.min_learning_rate_ratio
        return least + (1 - least) * (1 + cos(pi * min(progress, 1.0))) / 2

    return factor


class MoEModule(pl.LightningModule):
    """Trains a Mixtral on packed rows.

    Args:
        start_step: Optimizer steps that an earlier process has done.
        optimizer_state: AdamW's state after those steps.

    Attributes:
        last_loss: Mean cross entropy of the last step's target tokens, in nats, without the auxiliary loss.
        last_tokens: Real tokens of the last step.
    """

    def __init__(
        self,
        model: MixtralForCausalLM,
        *,
        config: TrainingConfig,
        start_step: int = 0,
        optimizer_state: OptimizerState | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.start_step = start_step
        self.last_loss: Tensor = torch.tensor(float("nan"))
        self.last_tokens: int = 0
        self._optimizer_state = optimizer_state

    @property
    def steps_done(self) -> int:
        """Optimizer steps done since the run began, over all processes."""
        return self.start_step + self.global_step

    def training_step(self, batch: PackedBatch, batch_index: int) -> Tensor:
        """Cross entropy normalised by target tokens, plus the load-balancing loss."""
        hidden, router_logits = hidden_and_routing(self.model, batch)
        total = linear_cross_entropy(hidden, weight_VH=self.model.lm_head.weight, targets_N=batch.targets)
        loss = total / max(batch.targets.numel(), 1)
        self.last_loss = loss.detach()
        self.last_tokens = int(batch.real.sum())
        balance = load_balancing_loss(
            router_logits, real=batch.real, top_k=self.model.config.num_experts_per_tok
        )
        return loss + self.config.router_aux_loss_coefficient * balance

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW (decay on matrices alone) and the schedule, both as they were after `start_step`."""
        parameters = [*self.model.named_parameters()]
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for _, p in parameters if p.ndim >= 2],
                    "weight_decay": self.config.weight_decay,
                },
                {"params": [p for _, p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=self.config.learning_rate,
            betas=ADAM_BETAS,
            fused=True,
        )
        if self._optimizer_state is not None:
            for name, parameter in parameters:
                optimizer.state[parameter] = {
                    key: value.clone().to(parameter.device)
                    for key, value in self._optimizer_state[name].items()
                }
            self._optimizer_state = None
        factor = learning_rate_factor(self.config)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(self.start_step + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm. Lightning's own refuses a fused optimizer in mixed precision, for a loss scaler that bf16 lacks."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip_norm)

    def optimizer_state(self) -> dict[str, dict[str, Tensor]]:
        """AdamW's present state, by parameter name."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return {name: {**optimizer.state[parameter]} for name, parameter in self.model.named_parameters()}
