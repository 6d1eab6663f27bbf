"""Held-out loss and routing, by family. Imports torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pixel_pipeline.training.data.batch import PackedBatch
from pixel_pipeline.training.data.dataset import ShardDataset, collate
from pixel_pipeline.training.model.losses import linear_cross_entropy
from pixel_pipeline.training.model.trained_model import TrainedModel

ROWS_PER_BATCH = 8


@dataclass
class FamilyScore:
    """Sums over the rows of one family, on the CPU.

    Attributes:
        tokens: Real ones, of which the routers see each.
        expert_counts: int64 [layers, experts], assignments of real tokens; no layer where there is no router.
        entropy_sums: fp64 [layers], over real tokens: entropy of the router's softmax, in nats.
    """

    rows: int
    loss_sum: float
    targets: int
    tokens: int
    expert_counts: Tensor
    entropy_sums: Tensor

    @property
    def loss(self) -> float:
        """Mean loss of a target token, in nats."""
        return self.loss_sum / max(self.targets, 1)


@dataclass
class Score:
    """Scores of all families."""

    families: dict[str, FamilyScore] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Mean loss of a target token over all families, in nats."""
        targets = sum(family.targets for family in self.families.values())
        return sum(family.loss_sum for family in self.families.values()) / max(targets, 1)

    @property
    def expert_counts(self) -> Tensor:
        """int64 [layers, experts], over all families."""
        return torch.stack([family.expert_counts for family in self.families.values()]).sum(0)

    @property
    def router_entropy(self) -> Tensor:
        """fp64 [layers], mean over real tokens of all families, in nats."""
        sums = torch.stack([family.entropy_sums for family in self.families.values()]).sum(0)
        return sums / max(sum(family.tokens for family in self.families.values()), 1)


@torch.no_grad()
def score_families(
    model: TrainedModel,
    dataset: ShardDataset,
    *,
    rows: dict[str, list[int]],
    stop: Callable[[], bool] = lambda: False,
) -> Score | None:
    """Score the given rows of each family; None when `stop()` became true on the way."""
    was_training = model.training
    model.train(False)
    try:
        score = Score()
        for family, indices in rows.items():
            total = FamilyScore(
                rows=len(indices),
                loss_sum=0.0,
                targets=0,
                tokens=0,
                expert_counts=torch.zeros(()).long(),
                entropy_sums=torch.zeros(()).double(),
            )
            for start in range(0, len(indices), ROWS_PER_BATCH):
                if stop():
                    return None
                batch = collate([dataset[index] for index in indices[start : start + ROWS_PER_BATCH]])
                _add(total, model=model, batch=batch.to(model.device))
            score.families[family] = total
        return score
    finally:
        model.train(was_training)


def _add(total: FamilyScore, *, model: TrainedModel, batch: PackedBatch) -> None:
    hidden, router_logits = model.hidden_and_routing(batch)
    loss = linear_cross_entropy(hidden, weight_VH=model.head_weight, targets_N=batch.targets)
    total.loss_sum += float(loss)
    total.targets += batch.targets.numel()
    total.tokens += int(batch.real.sum())
    counts = expert_counts(
        router_logits, real=batch.real, experts=model.experts, top_k=model.experts_per_token
    )
    total.expert_counts = total.expert_counts + counts
    total.entropy_sums = total.entropy_sums + entropy_sums(router_logits, real=batch.real)


def expert_counts(router_logits: Sequence[Tensor], *, real: Tensor, experts: int, top_k: int) -> Tensor:
    """int64 [layers, experts] on the CPU: assignments of real tokens, by layer with a router."""
    kept = real.flatten().nonzero().squeeze(1)
    counts = [
        torch.bincount(logits.index_select(0, kept).topk(top_k, dim=-1).indices.flatten(), minlength=experts)
        for logits in router_logits
    ]
    return torch.stack(counts).cpu() if counts else torch.zeros(0, experts, dtype=torch.int64)


def entropy_sums(router_logits: Sequence[Tensor], *, real: Tensor) -> Tensor:
    """fp64 [layers] on the CPU: entropy of each layer's softmax, summed over real tokens."""
    kept = real.flatten().nonzero().squeeze(1)
    sums = []
    for logits in router_logits:
        log_p = logits.index_select(0, kept).float().log_softmax(-1)
        sums.append(-(log_p.exp() * log_p).sum().double())
    return torch.stack(sums).cpu() if sums else torch.zeros(0, dtype=torch.float64)
