"""Is every expert used, and are they used for different things? Imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from pixel_pipeline.training.model.losses import expert_share

# Of an even share. An expert that gets less has as good as stopped learning.
DEAD_BELOW = 0.1


@dataclass(frozen=True)
class RouterHealth:
    """State of the routers over some tokens; on the CPU.

    Attributes:
        load_LE: Share of assignments that each expert gets, by layer; rows sum to 1.
        entropy_L: Mean over tokens of the entropy of the router's softmax, in nats: log E for a router without opinion, 0 for
            one without doubt.
    """

    load_LE: Tensor
    entropy_L: Tensor

    @property
    def load_entropy_L(self) -> Tensor:
        """Entropy of the load over log E: 1 when experts are used evenly, 0 when one takes all."""
        return _entropy(self.load_LE) / log(max(self.load_LE.size(1), 2))

    def dead_experts(self, *, below: float = DEAD_BELOW) -> list[tuple[int, int]]:
        """(layer, expert) of those whose load is less than `below` of an even share; layers count those with experts."""
        found = (self.load_LE < below / self.load_LE.size(1)).nonzero()
        return [(layer, expert) for layer, expert in found.tolist()]


@torch.no_grad()
def router_health(router_logits: Sequence[Tensor], *, real: Tensor, top_k: int) -> RouterHealth:
    """Health over the tokens of a batch.

    Args:
        router_logits: One [tokens, experts] for each layer.
        real: bool [tokens]; False at padding, which is left out.
        top_k: Experts for each token.
    """
    kept = real.flatten().nonzero().squeeze(1)
    chosen = [logits.index_select(0, kept).float() for logits in router_logits]
    return RouterHealth(
        load_LE=torch.stack([expert_share(logits, top_k=top_k) for logits in chosen]).cpu(),
        entropy_L=torch.stack([_entropy(logits.softmax(dim=-1)).mean() for logits in chosen]).cpu(),
    )


def mean_health(healths: Sequence[RouterHealth]) -> RouterHealth:
    """Health over several batches of about the same size."""
    return RouterHealth(
        load_LE=torch.stack([health.load_LE for health in healths]).mean(0),
        entropy_L=torch.stack([health.entropy_L for health in healths]).mean(0),
    )


def mutual_information(counts_DE: Tensor) -> float:
    """How much a token's expert tells of its domain, in nats: 0 when routing ignores domains.

    Args:
        counts_DE: Assignments of each domain's tokens to each expert.
    """
    joint = counts_DE.double() / counts_DE.sum().clamp(min=1)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return float(torch.xlogy(joint, joint / apart.clamp(min=1e-300)).sum())


def _entropy(probabilities: Tensor) -> Tensor:
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)
