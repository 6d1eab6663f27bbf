"""The experts of one Mixtral layer, fast on a CPU. Imports torch.

Tokens are sorted by expert, each expert multiplies its own contiguous slice, and the results are put back. Sorting is a
permutation, so both directions of autograd are gathers (`index_select`), which run in parallel; autograd's own backward of
a gather is a serial scatter-add. Against transformers' `grouped_mm` the nano model's step takes 10 % less CPU time.
"""

from typing import Any

import torch
from torch import Tensor
import torch.nn.functional as F
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

IMPLEMENTATION = "sorted_loop"


class _Dispatch(torch.autograd.Function):
    """x_TH -> x_SH: row s is the token of the s-th assignment in expert order (S = T * top_k)."""

    @staticmethod
    def forward(ctx: Any, x_TH: Tensor, order_S: Tensor, inverse_S: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(inverse_S)
        ctx.top_k = top_k
        return x_TH.index_select(0, order_S // top_k)

    @staticmethod
    def backward(ctx: Any, grad_SH: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (inverse_S,) = ctx.saved_tensors
        by_token = grad_SH.index_select(0, inverse_S)
        return by_token.view(-1, ctx.top_k, by_token.size(-1)).sum(1), None, None, None


class _Restore(torch.autograd.Function):
    """y_SH in expert order -> y_SH in token order."""

    @staticmethod
    def forward(ctx: Any, y_SH: Tensor, order_S: Tensor, inverse_S: Tensor) -> Tensor:
        ctx.save_for_backward(order_S)
        return y_SH.index_select(0, inverse_S)

    @staticmethod
    def backward(ctx: Any, grad_SH: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (order_S,) = ctx.saved_tensors
        return grad_SH.index_select(0, order_S), None, None


def sorted_loop_forward(experts: Any, x_TH: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
    """Weighted sum over the chosen experts of each token.

    Args:
        experts: `MixtralExperts`, with gate_up_proj [E, 2I, H] and down_proj [E, H, I].
        x_TH: Hidden states [tokens, hidden].
        expert_TK: Chosen experts [tokens, top_k].
        weight_TK: Their weights [tokens, top_k].

    Returns:
        [tokens, hidden], in the dtype of `x_TH`.
    """
    top_k = expert_TK.size(-1)
    expert_S = expert_TK.reshape(-1)
    order_S = torch.argsort(expert_S, stable=True)
    inverse_S = torch.empty_like(order_S)
    inverse_S[order_S] = torch.arange(order_S.numel(), device=order_S.device)
    counts = torch.bincount(expert_S, minlength=experts.num_experts).tolist()
    x_SH: Tensor = _Dispatch.apply(x_TH, order_S, inverse_S, top_k)  # type: ignore[no-untyped-call]
    outputs = []
    weights = zip(experts.gate_up_proj.unbind(0), experts.down_proj.unbind(0), strict=True)
    for x_NH, (gate_up, down) in zip(x_SH.split(counts), weights, strict=True):  # type: ignore[no-untyped-call]
        gate, up = F.linear(x_NH, gate_up).chunk(2, dim=-1)
        outputs.append(F.linear(experts.act_fn(gate) * up, down))
    y_SH: Tensor = _Restore.apply(torch.cat(outputs), order_S, inverse_S)  # type: ignore[no-untyped-call]
    y_TKH = y_SH.view(-1, top_k, x_TH.size(-1))
    return (y_TKH * weight_TK.unsqueeze(-1)).sum(1).to(x_TH.dtype)


ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, sorted_loop_forward)
