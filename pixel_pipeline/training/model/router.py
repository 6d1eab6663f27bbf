"""The router: assigns tokens to experts. Imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pixel_pipeline.training.config.adapters import ExpertDomains

# As in Mixtral: nearly uniform routing at the start, different for each token.
INITIAL_STD = 0.02


@dataclass(frozen=True)
class Routing:
    """The routing of a batch.

    Attributes:
        logits_TE: Logits including the domain bias; fp32, or fp64 for an fp64 router.
        weight_TK: Softmax over the selected experts' logits; rows sum to 1.
        expert_TK: The selected experts, int64.
    """

    logits_TE: Tensor
    weight_TK: Tensor
    expert_TK: Tensor


class Router(nn.Module):
    """A linear layer and Mixtral's rule: the top-k of the softmax over all experts, normalized to sum to 1.

    Attributes:
        weight: [E, H]; its products use its own precision, not the model's.
        pull_TE: Bias added to the logits in training, if set; see `domain_pull`.
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
    """Domain bias for the logits of a batch, fp32 [B * L, E]; None after its last step. `step` counts from 0.

    Args:
        domains: Domain of each of the B rows; None or an unknown name for no bias.
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
