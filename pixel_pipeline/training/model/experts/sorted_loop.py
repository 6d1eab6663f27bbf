"""The experts of one Mixtral layer, fast on a CPU. Imports torch.

Sorts tokens by expert; each expert multiplies a contiguous slice, and the results are put back. A step of the nano model takes
10 % less CPU time than with transformers' `grouped_mm`.
"""

from typing import Any

import torch
from torch import Tensor
import torch.nn.functional as F
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from pixel_pipeline.training.model.experts.dispatch import Dispatch

IMPLEMENTATION = "sorted_loop"


def sorted_loop_forward(experts: Any, x_TH: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
    """Weighted sum over the selected experts of each token.

    Args:
        experts: `MixtralExperts`, with gate_up_proj [E, 2I, H] and down_proj [E, H, I].
        x_TH: Hidden states [tokens, hidden].
        expert_TK: Selected experts [tokens, top_k].
        weight_TK: Their weights [tokens, top_k].

    Returns:
        [tokens, hidden], in the dtype of `x_TH`.
    """
    dispatch = Dispatch.of(expert_TK, experts=experts.num_experts)
    outputs = []
    rows = dispatch.to_experts(x_TH).split(dispatch.count_E.tolist())  # type: ignore[no-untyped-call]
    for x_NH, gate_up, down in zip(rows, experts.gate_up_proj, experts.down_proj, strict=True):
        gate, up = F.linear(x_NH, gate_up).chunk(2, dim=-1)
        outputs.append(F.linear(experts.act_fn(gate) * up, down))
    y_TKH = dispatch.to_tokens(torch.cat(outputs))
    return (y_TKH * weight_TK.unsqueeze(-1)).sum(1).to(x_TH.dtype)


ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, sorted_loop_forward)
