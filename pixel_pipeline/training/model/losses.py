"""The losses of training. Imports torch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
import torch.nn.functional as F

# Logits of one chunk: 512 rows of a vocabulary of 4096 are 8 MB and stay in the CPU's cache; of one of 131k, 268 MB.
CHUNK_ROWS = 512


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes its gradients in the forward pass, chunk by chunk, so that full logits never exist."""

    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> Tensor:
        grad_hidden = torch.empty_like(hidden_NH)
        # A frozen head needs no gradient: the product for it is a third of the work, and it is as large as the head.
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
    et al., 2021, arXiv:2101.03961, eq. 4-6). Pooling counts over layers, as transformers does, scores two layers that each
    collapsed onto another expert as perfect.

    Args:
        router_logits: One [tokens, experts] for each layer.
        real: bool [tokens]; False at padding, which is left out.
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
        real: bool [tokens]; False at padding, which is left out.
    """
    kept = real.flatten().nonzero().squeeze(1)
    losses = [
        logits.index_select(0, kept).float().logsumexp(dim=-1).square().mean() for logits in router_logits
    ]
    return torch.stack(losses).mean()


def domain_loss(router_logits: Sequence[Tensor], *, pull_TE: Tensor, real: Tensor) -> Tensor:
    """Mean over layers of the cross entropy, in nats, of the router's softmax against the expert that a token is drawn to.

    Drawing tokens to an expert shapes the expert; the router learns of it by this loss alone, for its own logits have no part in
    what was drawn. 0 where no token is drawn.

    Args:
        router_logits: One [tokens, experts] for each layer, without the pull.
        pull_TE: Of `domain_pull`.
        real: bool [tokens]; False at padding, which is left out.
    """
    strength, expert = pull_TE.max(dim=-1)
    kept = (real.flatten() & (strength > 0)).nonzero().squeeze(1)
    if not kept.numel():
        return pull_TE.new_zeros(())
    wanted = expert.index_select(0, kept)
    losses = [F.cross_entropy(logits.index_select(0, kept).float(), wanted) for logits in router_logits]
    return torch.stack(losses).mean()


def expert_share(scores: Tensor, *, top_k: int) -> Tensor:
    """float32 [experts]: the share of assignments that each expert gets; sums to 1. `scores` is [tokens, experts]."""
    chosen = scores.detach().topk(top_k, dim=-1).indices.flatten()
    counts = torch.bincount(chosen, minlength=scores.size(1)).float()
    return counts / max(chosen.numel(), 1)
