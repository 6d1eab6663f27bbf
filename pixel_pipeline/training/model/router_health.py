"""Measures whether every expert is used, and whether experts specialise. Imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from pixel_pipeline.training.model.losses import expert_share

# Share of an even load. An expert with less hardly learns any more.
DEAD_BELOW = 0.1


@dataclass(frozen=True)
class RouterHealth:
    """Routing statistics over some tokens, on the CPU.

    Attributes:
        load_LE: Share of assignments of each expert, by layer; rows sum to 1.
        entropy_L: Mean over tokens of the entropy of the router's softmax, in nats: log E for uniform routing, 0 for one-hot.
    """

    load_LE: Tensor
    entropy_L: Tensor

    @property
    def load_entropy_L(self) -> Tensor:
        """Entropy of the load divided by log E: 1 for even use, 0 if one expert gets everything."""
        return _entropy(self.load_LE) / log(max(self.load_LE.size(1), 2))

    def dead_experts(self, *, below: float = DEAD_BELOW) -> list[tuple[int, int]]:
        """(layer, expert) of experts with less than `below` of an even share; counts only layers with experts."""
        found = (self.load_LE < below / self.load_LE.size(1)).nonzero()
        return [(layer, expert) for layer, expert in found.tolist()]


@torch.no_grad()
def router_health(router_logits: Sequence[Tensor], *, real: Tensor, top_k: int) -> RouterHealth:
    """Statistics of a batch.

    Args:
        router_logits: One [tokens, experts] for each layer.
        real: bool [tokens]; False at padding, which is excluded.
        top_k: Experts per token.
    """
    kept = real.flatten().nonzero().squeeze(1)
    chosen = [logits.index_select(0, kept).float() for logits in router_logits]
    return RouterHealth(
        load_LE=torch.stack([expert_share(logits, top_k=top_k) for logits in chosen]).cpu(),
        entropy_L=torch.stack([_entropy(logits.softmax(dim=-1)).mean() for logits in chosen]).cpu(),
    )


def mean_health(healths: Sequence[RouterHealth]) -> RouterHealth:
    """Mean over batches of about the same size."""
    return RouterHealth(
        load_LE=torch.stack([health.load_LE for health in healths]).mean(0),
        entropy_L=torch.stack([health.entropy_L for health in healths]).mean(0),
    )


def mutual_information(counts_DE: Tensor) -> float:
    """Mutual information of a token's expert and domain, in nats; 0 if routing ignores domains.

    Args:
        counts_DE: Assignments of each domain's tokens to each expert.
    """
    joint = counts_DE.double() / counts_DE.sum().clamp(min=1)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return float(torch.xlogy(joint, joint / apart.clamp(min=1e-300)).sum())


def _entropy(probabilities: Tensor) -> Tensor:
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)
