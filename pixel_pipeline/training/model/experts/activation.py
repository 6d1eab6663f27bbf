"""Activations of LoRA experts, between the shared dense products of an FFN. Imports torch.

The FFN of token t is `W_down(sum_e w_te h_te) + s * sum_e B_down_e A_down_e (w_te h_te)` with
`h_te = act(g_t + s B_gate_e A_gate_e x_t) * (u_t + s B_up_e A_up_e x_t)`. The dense products `g = W_gate x`, `u = W_up x` and that
with W_down do not depend on the expert and run once per token, elsewhere. This module computes the K activations of each token.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from pixel_pipeline.training.model.experts.dispatch import Dispatch
from pixel_pipeline.training.model.experts.products import expert_products
from pixel_pipeline.training.model.router import Routing


@dataclass(frozen=True)
class ExpertInputs:
    """Inputs of all activations, in one dtype.

    Attributes:
        g_TI, u_TI: `W_gate x` and `W_up x`.
        zg_TR, zu_TR: `A_gate_e x` and `A_up_e x` of all experts, concatenated; R = E * r.
        bg_EIr, bu_EIr: B_gate and B_up.
        ad_ErI: A_down.
    """

    g_TI: Tensor
    u_TI: Tensor
    zg_TR: Tensor
    zu_TR: Tensor
    bg_EIr: Tensor
    bu_EIr: Tensor
    ad_ErI: Tensor


def grouped_activation(
    inputs: ExpertInputs, routing: Routing, *, scale: float, activation: Any, dropout: float
) -> tuple[Tensor, Tensor]:
    """The activations by plain autograd operations.

    Returns:
        mixed_TI: `sum_e w_e h_e`.
        zd_TR: `A_down_e (w_e h_e)` of all experts, concatenated; zero for experts that are not selected.
    """
    experts, rank, _ = inputs.ad_ErI.shape
    tokens = inputs.g_TI.size(0)
    dispatch = Dispatch.of(routing.expert_TK, experts=experts)
    slot_S = expert_slots(routing.expert_TK, dispatch.order_S, experts=experts)

    def change(z_TR: Tensor, b_EIr: Tensor) -> Tensor:
        z_Sr = z_TR.reshape(-1, rank).index_select(0, slot_S)
        return expert_products(z_Sr, b_EIr.transpose(1, 2), dispatch) * scale

    gate_SI = dispatch.to_experts(inputs.g_TI) + change(inputs.zg_TR, inputs.bg_EIr)
    up_SI = dispatch.to_experts(inputs.u_TI) + change(inputs.zu_TR, inputs.bu_EIr)
    weight_S = routing.weight_TK.reshape(-1).index_select(0, dispatch.order_S).to(gate_SI.dtype)
    h_SI = activation(gate_SI) * up_SI * weight_S.unsqueeze(1)
    zd_Sr = expert_products(
        F.dropout(h_SI, dropout) if dropout else h_SI, inputs.ad_ErI.transpose(1, 2), dispatch
    )
    zd_TR = zd_Sr.new_zeros(tokens * experts, rank).index_copy(0, slot_S, zd_Sr).view(tokens, -1)
    return dispatch.to_tokens(h_SI).sum(1), zd_TR


def recomputed_activation(
    inputs: ExpertInputs, routing: Routing, *, scale: float, activation: Any, dropout: float
) -> tuple[Tensor, Tensor]:
    """The activations for GPUs, for dropout, and for activation functions other than SiLU.

    Keeps only the inputs and recomputes the activations in the backward pass: two [T, I] tensors instead of 2 + 5 K, at the cost
    of skinny products.
    """
    result: tuple[Tensor, Tensor] = checkpoint(
        grouped_activation,
        inputs,
        routing,
        scale=scale,
        activation=activation,
        dropout=dropout,
        use_reentrant=False,
        preserve_rng_state=dropout > 0,
    )
    return result


def expert_slots(expert_TK: Tensor, order_S: Tensor, *, experts: int) -> Tensor:
    """Row of [T * E, r] of each assignment."""
    token_T1 = torch.arange(expert_TK.size(0), device=expert_TK.device).unsqueeze(1)
    return (token_T1 * experts + expert_TK).reshape(-1).index_select(0, order_S)
