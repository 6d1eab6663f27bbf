"""The losses of training. Imports torch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
import torch.nn.functional as F

# Rows of logits in a chunk: with a vocabulary of 4,096 they are 8 MB and fit into the CPU's cache; with 131,000, 268 MB.
CHUNK_ROWS = 512


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward pass, chunk by chunk, so that the full logits never exist."""

    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> Tensor:
        grad_hidden = torch.empty_like(hidden_NH)
        # A frozen head needs no gradient, which would take a third of the work and as much memory as the head.
        grad_weight = torch.zeros_like(weight_VH, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), device=hidden_NH.device)
        for start in range(0, hidden_NH.size(0), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            hidden, target = hidden_NH[rows], targets_N[rows].unsqueeze(1)
            logits = (hidden @ weight_VH.t()).float()
            log_sum = logits.logsumexp(dim=1, keepdim=True)
            total += (log_sum - logits.gather(1, target)).sum()
            # d loss / d logits = softmax(logits) - one_hot(target)
            grad = logits.sub_(log_sum).exp_()
            grad.scatter_add_(1, target, grad.new_full(target.shape, -1.0))
            grad = grad.to(weight_VH.dtype)
            grad_hidden[rows] = grad @ weight_VH
            if grad_weight is not None:
                grad_weight += grad.t() @ hidden
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight_VH.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad, None if grad_weight is None else grad_weight * grad, None


def linear_cross_entropy(hidden_NH: Tensor, *, weight_VH: Tensor, targets_N: Tensor) -> Tensor:
    """Summed cross entropy, in nats, of `softmax(hidden @ weight.T)` against the targets; fp32 scalar."""
    loss: Tensor = _LinearCrossEntropy.apply(hidden_NH, weight_VH, targets_N)  # type: ignore[no-untyped-call]
    return loss


def load_balancing_loss(router_logits: Sequence[Tensor], *, real: Tensor, top_k: int) -> Tensor:
    """Mean over layers of each layer's load-balancing loss: 1 when experts are evenly used, E / top_k when collapsed.

    Per layer `E * sum_e(f_e * p_e)` with f the share of assignments and p the mean router probability of expert e (Fedus
    et al., 2021, arXiv:2101.03961, eq. 4-6). transformers pools the counts over layers, so two layers that collapsed onto different
    experts would look balanced.

    Args:
        router_logits: One [tokens, experts] for each layer.
        real: bool [tokens]; False at padding, which is excluded.
        top_k: Experts for each token.
    """
    kept = real.flatten().nonzero().squeeze(1)
    losses = []
    for logits in router_logits:
        probabilities = logits.index_select(0, kept).float().softmax(dim=-1)
        share = expert_share(probabilities, top_k=top_k)
        losses.append(probabilities.size(1) * (share * probabilities.mean(0)).sum())
    return torch.stack(losses).mean()


def router_z_loss(router_logits: Sequence[Tensor], *, real: Tensor) -> Tensor:
    """Mean over layers and real tokens of `logsumexp(logits)^2`, which keeps router logits small (Zoph et al., 2022, arXiv:2202.08906, eq. 5).

    Args:
        router_logits: One [tokens, experts] for each layer.
        real: bool [tokens]; False at padding, which is excluded.
    """
    kept = real.flatten().nonzero().squeeze(1)
    losses = [
        logits.index_select(0, kept).float().logsumexp(dim=-1).square().mean() for logits in router_logits
    ]
    return torch.stack(losses).mean()


def domain_loss(router_logits: Sequence[Tensor], *, pull_TE: Tensor, real: Tensor) -> Tensor:
    """Mean over layers of the cross entropy, in nats, of the router's softmax against the expert of a token's domain.

    The bias towards a domain's expert trains the expert; only this loss trains the router. 0 if no token has a bias.

    Args:
        router_logits: One [tokens, experts] for each layer, without the bias.
        pull_TE: The bias, from `domain_pull`.
        real: bool [tokens]; False at padding, which is excluded.
    """
    strength, expert = pull_TE.max(dim=-1)
    kept = (real.flatten() & (strength > 0)).nonzero().squeeze(1)
    if not kept.numel():
        return pull_TE.new_zeros(())
    wanted = expert.index_select(0, kept)
    losses = [F.cross_entropy(logits.index_select(0, kept).float(), wanted) for logits in router_logits]
    return torch.stack(losses).mean()


def expert_share(scores: Tensor, *, top_k: int) -> Tensor:
    """float32 [experts]: each expert's share of the assignments; sums to 1. `scores` is [tokens, experts]."""
    chosen = scores.detach().topk(top_k, dim=-1).indices.flatten()
    counts = torch.bincount(chosen, minlength=scores.size(1)).float()
    return counts / max(chosen.numel(), 1)
