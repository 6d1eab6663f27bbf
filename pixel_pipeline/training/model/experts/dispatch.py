"""Sorts rows of tokens by expert, and back. Imports torch.

Sorting is a permutation, so forward and backward are both gathers (`index_select`), which run in parallel. Autograd's own backward
of a gather is a scatter-add, which is serial on a CPU and has no fixed order on a GPU.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dispatch:
    """The order of S = T * K assignments, sorted by expert.

    Attributes:
        order_S: Index t * K + k of the s-th assignment.
        inverse_S: Position of assignment t * K + k.
        token_S: Token of the s-th assignment.
        count_E: Assignments of each expert, int64.
        top_k: K.
    """

    order_S: Tensor
    inverse_S: Tensor
    token_S: Tensor
    count_E: Tensor
    top_k: int

    @classmethod
    def of(cls, expert_TK: Tensor, *, experts: int) -> "Dispatch":
        """Sort the selected experts, without synchronising with the device."""
        expert_S = expert_TK.reshape(-1)
        order_S = torch.argsort(expert_S, stable=True)
        inverse_S = torch.empty_like(order_S)
        inverse_S[order_S] = torch.arange(order_S.numel(), device=order_S.device)
        numbers = torch.arange(experts, device=expert_S.device)
        count_E = (expert_S.unsqueeze(1) == numbers).sum(0)
        top_k = expert_TK.size(1)
        return cls(order_S, inverse_S, order_S // top_k, count_E, top_k)

    def to_experts(self, x_TN: Tensor) -> Tensor:
        """[T, N] -> [S, N]: each token's row once for each of its experts."""
        result: Tensor = _ToExperts.apply(x_TN, self.token_S, self.inverse_S, self.top_k)  # type: ignore[no-untyped-call]
        return result

    def to_tokens(self, y_SN: Tensor) -> Tensor:
        """[S, N] -> [T, K, N]: each token's results."""
        result: Tensor = _ToTokens.apply(y_SN, self.order_S, self.inverse_S)  # type: ignore[no-untyped-call]
        return result.view(-1, self.top_k, y_SN.size(-1))


class _ToExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TN: Tensor, token_S: Tensor, inverse_S: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(inverse_S)
        ctx.top_k = top_k
        return x_TN.index_select(0, token_S)

    @staticmethod
    def backward(ctx: Any, grad_SN: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (inverse_S,) = ctx.saved_tensors
        by_token = grad_SN.index_select(0, inverse_S)
        return by_token.view(-1, ctx.top_k, by_token.size(-1)).sum(1), None, None, None


class _ToTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y_SN: Tensor, order_S: Tensor, inverse_S: Tensor) -> Tensor:
        ctx.save_for_backward(order_S)
        return y_SN.index_select(0, inverse_S)

    @staticmethod
    def backward(ctx: Any, grad_SN: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (order_S,) = ctx.saved_tensors
        return grad_SN.index_select(0, order_S), None, None
