"""The Lightning module: losses, optimizer, learning rate. Imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, isfinite, pi
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.config.curriculum import Curriculum, StageSteps
from pixel_pipeline.training.data.batch import PackedBatch
from pixel_pipeline.training.errors import TrainingDivergedError
from pixel_pipeline.training.loop.checkpoint_folder import OptimizerState
from pixel_pipeline.training.loop.spike_guard import SpikeGuard, Verdict
from pixel_pipeline.training.model.losses import (
    domain_loss,
    linear_cross_entropy,
    load_balancing_loss,
    router_z_loss,
)
from pixel_pipeline.training.model.router import domain_pull
from pixel_pipeline.training.model.trained_model import TrainedModel

ADAM_BETAS = (0.9, 0.95)
# More rewinds within this many steps mean that the run diverges; a few bad rows do not cause them.
MOST_REWINDS = 2
REWIND_STEPS = 100
# Keeps the seeds of all steps of all runs different.
STEPS_PER_SEED = 2**32
# torch's limit.
SEEDS = 2**63
# The weights to rewind to are copied every so many steps. A checkpoint would not do: its step depends on the clock, so two runs of
# the same inputs would rewind to different weights.
SNAPSHOT_STEPS = 50


def learning_rate_factor(config: TrainingConfig) -> Callable[[int], float]:
    """The share of the peak learning rate by steps done: linear warm-up, then cosine decay to the minimum."""

    def factor(steps_done: int) -> float:
        if steps_done < config.warmup_steps:
            return (steps_done + 1) / (config.warmup_steps + 1)
        progress = (steps_done - config.warmup_steps) / max(config.steps - 1 - config.warmup_steps, 1)
        minimum = config.min_learning_rate_ratio
        return minimum + (1 - minimum) * (1 + cos(pi * min(progress, 1.0))) / 2

    return factor


@dataclass(frozen=True)
class StepRecord:
    """The last step, for callbacks.

    Attributes:
        loss: Mean cross entropy of its target tokens, in nats, without auxiliary losses.
        tokens: Without padding.
        gradient_norm: Before clipping; NaN if the update was skipped.
        router_logits, real: Of its last micro-batch.
    """

    loss: float
    tokens: int
    learning_rate: float
    gradient_norm: float
    router_logits: tuple[Tensor, ...]
    real: Tensor


class MoEModule(pl.LightningModule):
    """Trains a model on packed rows: one batch is one step.

    Args:
        history: Of the run; the module adds losses, tokens, skipped steps and rewinds.
        domain_of: Domain of each family, if experts specialize in domains.
        stage_of: The curriculum's stage at a step, from 0.
        optimizer_state: AdamW's state after the steps of `history`.

    Attributes:
        last: The last step.
    """

    automatic_optimization = False
    last: StepRecord

    def __init__(
        self,
        trained: TrainedModel,
        *,
        config: TrainingConfig,
        history: History,
        domain_of: Mapping[str, str] | None = None,
        stage_of: Callable[[int], StageSteps] | None = None,
        optimizer_state: OptimizerState | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.trained = trained
        self.config = config
        self.history = history
        self._domain_of = domain_of or {}
        self._stage_of = stage_of or _whole_run(config)
        self._factor = learning_rate_factor(config)
        self._guard = SpikeGuard(config.spike_threshold) if config.spike_threshold else None
        self._optimizer_state = optimizer_state
        self._report = report
        self._snapshot: tuple[int, dict[str, Tensor], OptimizerState] | None = None

    @property
    def steps_done(self) -> int:
        """Steps since the run began, over all processes, including skipped ones."""
        return len(self.history.losses)

    def on_train_start(self) -> None:
        """Take the first snapshot to rewind to."""
        self._take_snapshot()

    def training_step(self, batch: PackedBatch, batch_index: int) -> None:
        """Compute losses and gradients of all micro-batches, ask the spike guard, and update."""
        optimizer = self._optimizer()
        optimizer.zero_grad(set_to_none=True)
        step, targets, tokens = self.steps_done, batch.targets.numel(), int(batch.real.sum())
        # Dropout depends on the step alone, so a resumed run needs no state of random generators.
        torch.manual_seed((self.config.seed * STEPS_PER_SEED + step) % SEEDS)
        total = torch.zeros((), device=self.device)
        router_logits: tuple[Tensor, ...] = ()
        micro = batch
        for micro in batch.split(self.config.rows_per_micro_batch or batch.tokens.size(0)):
            pull = self._pull(micro, step)
            hidden, router_logits = self.trained.hidden_and_routing(micro, pull_TE=pull)
            loss = linear_cross_entropy(
                hidden, weight_VH=self.trained.head_weight, targets_N=micro.targets
            ) / max(targets, 1)
            total += loss.detach()
            # Both losses are means over tokens, so a micro-batch is weighted by its tokens.
            weight = micro.real.sum() / max(tokens, 1)
            routing = self._router_losses(router_logits, pull_TE=pull, real=micro.real, step=step)
            self.manual_backward(loss + weight * routing)
        value = float(total)
        stage = self._stage_of(step)
        rate = self.config.learning_rate * self._factor(step) * stage.stage.learning_rate
        norm = self._update(optimizer, loss=value, learning_rate=rate, stage_start=stage.start)
        self.last = StepRecord(
            loss=value,
            tokens=tokens,
            learning_rate=rate,
            gradient_norm=norm,
            router_logits=tuple(logits.detach() for logits in router_logits),
            real=micro.real,
        )
        self.history.losses.append(value)
        self.history.tokens += tokens
        if self.steps_done % SNAPSHOT_STEPS == 0 and self.steps_done not in self.history.skipped[-1:]:
            self._take_snapshot()

    def _router_losses(
        self, router_logits: tuple[Tensor, ...], *, pull_TE: Tensor | None, real: Tensor, step: int
    ) -> Tensor | float:
        if not router_logits:
            return 0.0
        # Without the bias towards domains, which is not to be balanced.
        own = router_logits if pull_TE is None else tuple(logits - pull_TE for logits in router_logits)
        balance = load_balancing_loss(own, real=real, top_k=self.trained.experts_per_token)
        size = router_z_loss(own, real=real)
        loss = (
            self.config.router_aux_loss_coefficient * balance + self.config.router_z_loss_coefficient * size
        )
        if pull_TE is not None and self.config.domains is not None:
            taught = domain_loss(own, pull_TE=pull_TE, real=real)
            loss = loss + self.config.domains.teaching_at(step) * taught
        return loss

    def _pull(self, batch: PackedBatch, step: int) -> Tensor | None:
        if self.config.domains is None:
            return None
        return domain_pull(
            [self._domain_of.get(family) if family else None for family in batch.families],
            config=self.config.domains,
            step=step,
            experts=self.trained.experts,
            row_length=batch.tokens.size(1),
            device=batch.tokens.device,
        )

    def _update(
        self, optimizer: torch.optim.Optimizer, *, loss: float, learning_rate: float, stage_start: int
    ) -> float:
        """Update the weights; returns the gradient norm, or NaN if the guard skips the step."""
        history, step = self.history, self.steps_done + 1
        verdict = Verdict.TAKE
        norm = float("nan")
        if isfinite(loss):
            # Lightning's own clipping refuses a fused optimizer in mixed precision, because of a loss scaler that bf16 does not use.
            norm = float(
                torch.nn.utils.clip_grad_norm_(
                    self.trained.trained_parameters().values(), self.config.gradient_clip_norm
                )
            )
        if self._guard is not None:
            # A finite loss whose gradient is not finite is a spike too.
            verdict = self._guard.verdict(
                loss if isfinite(norm) else float("nan"),
                losses=history.losses,
                skipped=history.skipped,
                rewinds=history.rewinds,
                since=stage_start,
            )
        elif not isfinite(norm):
            raise _diverged(loss, step)
        if verdict is Verdict.TAKE:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            return norm
        history.skipped.append(step)
        self._report(f"step {step}: loss {loss:.2f} is a spike; its update is skipped")
        if verdict is Verdict.REWIND:
            self._rewind(step, loss=loss)
        return float("nan")

    def _rewind(self, step: int, *, loss: float) -> None:
        recent = [rewind for rewind in self.history.rewinds if rewind > step - REWIND_STEPS]
        if len(recent) >= MOST_REWINDS:
            raise _diverged(loss, step)
        assert self._snapshot is not None, "taken when training starts"
        at, tensors, optimizer_state = self._snapshot
        self.trained.load_trained(tensors)
        self._load_optimizer(optimizer_state)
        self.history.rewinds.append(step)
        self._report(
            f"step {step}: the weights of step {at} are restored; training continues with the next rows"
        )

    def _take_snapshot(self) -> None:
        state = {
            name: {key: value.to("cpu", copy=True) for key, value in tensors.items()}
            for name, tensors in self.optimizer_state().items()
        }
        self._snapshot = (self.steps_done, self.trained.copy_of_trained(), state)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with decay on matrices only, in its state after the steps done."""
        parameters = [*self.trained.trained_parameters().values()]
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.config.weight_decay},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=self.config.learning_rate,
            betas=ADAM_BETAS,
            fused=True,
        )
        if self._optimizer_state is not None:
            self._load_optimizer(self._optimizer_state, optimizer=optimizer)
            self._optimizer_state = None
        return optimizer

    def _load_optimizer(
        self, state: OptimizerState, *, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        optimizer = optimizer or self._optimizer()
        for name, parameter in self.trained.trained_parameters().items():
            if name in state:
                optimizer.state[parameter] = {
                    key: value.clone().to(parameter.device) for key, value in state[name].items()
                }
            else:
                optimizer.state.pop(parameter, None)

    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def optimizer_state(self) -> dict[str, dict[str, Tensor]]:
        """AdamW's state by parameter name, without parameters that had no update yet."""
        state = self._optimizer().state
        return {
            name: {**state[parameter]}
            for name, parameter in self.trained.trained_parameters().items()
            if parameter in state
        }


def _whole_run(config: TrainingConfig) -> Callable[[int], StageSteps]:
    (only,) = Curriculum().resolve(config.steps)
    return lambda step: only


def _diverged(loss: float, step: int) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"The loss is {loss:.2f} at step {step}, and restoring earlier weights does not help.",
        hint="Lower the learning rate or lengthen the warm-up, then train again.",
    )
