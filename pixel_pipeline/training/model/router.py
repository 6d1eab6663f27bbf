"""Which experts see which token. Imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pixel_pipeline.training.config.adapters import ExpertDomains

# Mixtral's own: equal chances at the start, and no two tokens alike.
INITIAL_STD = 0.02


@dataclass(frozen=True)
class Routing:
    """The router's answer.

    Attributes:
        logits_TE: What was decided on, the domains' pull included; fp32, or fp64 for a router of that.
        weight_TK: Softmax over the chosen experts' logits; rows sum to 1.
        expert_TK: The chosen experts, int64.
    """

    logits_TE: Tensor
    weight_TK: Tensor
    expert_TK: Tensor


class Router(nn.Module):
    """A linear layer and Mixtral's rule: the top-k of the softmax over all experts, made to sum to 1.

    Attributes:
        weight: [E, H]; its products are computed in its own precision whatever that of the model is.
        pull_TE: Added to the logits in training when set: see `domain_pull`.
    """

    def __init__(
        self, hidden_size: int, *, experts: int, experts_per_token: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.experts_per_token = experts_per_token
        weight = torch.empty(experts, hidden_size).normal_(std=INITIAL_STD, generator=generator)
        self.weight = nn.Parameter(weight)
        self.pull_TE: Tensor | None = None

    def forward(self, x_TH: Tensor) -> Routing:
        """Route each row of [tokens, hidden]."""
        logits_TE = F.linear(x_TH.to(self.weight.dtype), self.weight)
        if self.training and self.pull_TE is not None:
            logits_TE = logits_TE + self.pull_TE
        probability_TE = logits_TE.softmax(dim=-1)
        top_TK, expert_TK = probability_TE.topk(self.experts_per_token, dim=-1)
        return Routing(logits_TE, top_TK / top_TK.sum(dim=-1, keepdim=True), expert_TK)


def domain_pull(
    domains: Sequence[str | None],
    *,
    config: ExpertDomains,
    step: int,
    experts: int,
    row_length: int,
    device: torch.device,
) -> Tensor | None:
    """fp32 [B * L, E] to add to the logits of a batch at a step, from 0; None once the pull is gone.

    Args:
        domains: Domain of each of the B rows; None, or a name that `config` does not have, for no pull.
        row_length: L, in tokens.
    """
    strength = config.strength_at(step)
    if strength == 0:
        return None
    pull_BE = torch.zeros(len(domains), experts)
    for row, domain in enumerate(domains):
        expert = config.expert_of(domain, experts=experts)
        if expert is not None:
            pull_BE[row, expert] = strength
    return pull_BE.repeat_interleave(row_length, dim=0).to(device)
