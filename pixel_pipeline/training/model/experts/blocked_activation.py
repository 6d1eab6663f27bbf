"""Activations of an FFN's experts on a CPU, in blocks of tokens with a hand-written backward pass. Imports torch.

Plain autograd keeps about twelve tensors of [T * K, I]. This keeps two of [T, I]; all others exist for one block of tokens at a
time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
import torch.nn.functional as F

from pixel_pipeline.training.model.experts.activation import ExpertInputs, expert_slots
from pixel_pipeline.training.model.router import Routing

# Size of the activations of a block. Small enough to bound memory; large, because threads lose more at the barriers of many small
# products than caches win: a layer of SmolLM2's width, 1,024 tokens, takes 112 ms at 2 MiB and 84 ms at 16 MiB and above.
BLOCK_BYTES = 32 * 1024**2


def blocked_activation(inputs: ExpertInputs, routing: Routing, *, scale: float) -> tuple[Tensor, Tensor]:
    """Same as `grouped_activation` for SiLU without dropout, keeping only the inputs for the backward pass."""
    result: tuple[Tensor, Tensor] = _Blocked.apply(  # type: ignore[no-untyped-call]
        inputs.g_TI,
        inputs.u_TI,
        inputs.zg_TR,
        inputs.zu_TR,
        inputs.bg_EIr,
        inputs.bu_EIr,
        inputs.ad_ErI,
        routing.weight_TK,
        routing.expert_TK,
        scale,
    )
    return result


@dataclass(frozen=True)
class _Piece:
    """The assignments of one expert in one block of tokens: rows `start` to `end` of the order."""

    expert: int
    start: int
    end: int


@dataclass(frozen=True)
class _Blocks:
    """Assignments ordered by block of tokens, then expert.

    Attributes:
        bag_TK: int64; positions of a token's assignments within its block.
    """

    order_S: Tensor
    token_S: Tensor
    slot_S: Tensor
    bag_TK: Tensor
    tokens: list[slice]
    pieces: list[list[_Piece]]

    @classmethod
    def of(cls, expert_TK: Tensor, *, experts: int, row_bytes: int) -> "_Blocks":
        count, top_k = expert_TK.shape
        size = max(BLOCK_BYTES // (row_bytes * top_k), 1)
        block_T1 = (torch.arange(count) // size).unsqueeze(1)
        blocks = -(-count // size)
        key_S = (block_T1 * experts + expert_TK).reshape(-1)
        order_S = torch.argsort(key_S, stable=True)
        place_S = torch.empty_like(order_S)
        place_S[order_S] = torch.arange(order_S.numel())
        ends = [0, *torch.bincount(key_S, minlength=blocks * experts).cumsum(0).tolist()]
        pieces = [
            [
                _Piece(expert, ends[block * experts + expert], ends[block * experts + expert + 1])
                for expert in range(experts)
            ]
            for block in range(blocks)
        ]
        return cls(
            order_S=order_S,
            token_S=order_S // top_k,
            slot_S=expert_slots(expert_TK, order_S, experts=experts),
            bag_TK=place_S.view(count, top_k) - block_T1 * size * top_k,
            tokens=[slice(block * size, min((block + 1) * size, count)) for block in range(blocks)],
            pieces=[[piece for piece in block if piece.end > piece.start] for block in pieces],
        )


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        g_TI: Tensor,
        u_TI: Tensor,
        zg_TR: Tensor,
        zu_TR: Tensor,
        bg_EIr: Tensor,
        bu_EIr: Tensor,
        ad_ErI: Tensor,
        weight_TK: Tensor,
        expert_TK: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        experts, rank, inner = ad_ErI.shape
        blocks = _Blocks.of(expert_TK, experts=experts, row_bytes=inner * g_TI.element_size())
        zg_Sr = zg_TR.reshape(-1, rank).index_select(0, blocks.slot_S)
        zu_Sr = zu_TR.reshape(-1, rank).index_select(0, blocks.slot_S)
        weight_S = weight_TK.reshape(-1).index_select(0, blocks.order_S).to(g_TI.dtype)
        zd_Sr = torch.empty_like(zg_Sr)
        mixed: list[Tensor] = []
        for tokens, pieces in zip(blocks.tokens, blocks.pieces, strict=True):
            first = pieces[0].start
            h_BI = g_TI.new_empty(pieces[-1].end - first, inner)
            for piece in pieces:
                rows, e = slice(piece.start, piece.end), piece.expert
                token_N = blocks.token_S[rows]
                gate_NI = g_TI.index_select(0, token_N).addmm_(zg_Sr[rows], bg_EIr[e].t(), alpha=scale)
                up_NI = u_TI.index_select(0, token_N).addmm_(zu_Sr[rows], bu_EIr[e].t(), alpha=scale)
                up_NI.mul_(weight_S[rows].unsqueeze(1))
                h_NI = torch.mul(
                    F.silu(gate_NI, inplace=True), up_NI, out=h_BI[piece.start - first : piece.end - first]
                )
                torch.mm(h_NI, ad_ErI[e].t(), out=zd_Sr[rows])
            mixed.append(_sum_bags(h_BI, blocks.bag_TK[tokens]))
        ctx.save_for_backward(g_TI, u_TI, zg_Sr, zu_Sr, bg_EIr, bu_EIr, ad_ErI, weight_S)
        ctx.blocks, ctx.scale, ctx.weight_like = blocks, scale, weight_TK
        return _joined(mixed), _scatter(zd_Sr, blocks.slot_S, shape=zg_TR.shape)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dmixed_TI: Tensor, dzd_TR: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        g_TI, u_TI, zg_Sr, zu_Sr, bg_EIr, bu_EIr, ad_ErI, weight_S = ctx.saved_tensors
        blocks, scale = ctx.blocks, ctx.scale
        rank, inner = ad_ErI.shape[1:]
        dzd_Sr = dzd_TR.reshape(-1, rank).index_select(0, blocks.slot_S)
        dg: list[Tensor] = []
        du: list[Tensor] = []
        dzg_Sr, dzu_Sr = torch.empty_like(zg_Sr), torch.empty_like(zu_Sr)
        dbg_EIr, dbu_EIr, dad_ErI = (torch.zeros_like(weight) for weight in (bg_EIr, bu_EIr, ad_ErI))
        dweight_S = torch.empty_like(weight_S)
        for tokens, pieces in zip(blocks.tokens, blocks.pieces, strict=True):
            first = pieces[0].start
            dgate_BI, dup_BI = g_TI.new_empty(2, pieces[-1].end - first, inner).unbind(0)
            for piece in pieces:
                rows, e = slice(piece.start, piece.end), piece.expert
                own = slice(piece.start - first, piece.end - first)
                token_N, weight_N1 = blocks.token_S[rows], weight_S[rows].unsqueeze(1)
                gate_NI = g_TI.index_select(0, token_N).addmm_(zg_Sr[rows], bg_EIr[e].t(), alpha=scale)
                up_NI = u_TI.index_select(0, token_N).addmm_(zu_Sr[rows], bu_EIr[e].t(), alpha=scale)
                act_NI = F.silu(gate_NI)
                h_NI = act_NI * up_NI
                # Gradient of w h, the input of both the sum and A_down.
                dwh_NI = dmixed_TI.index_select(0, token_N).addmm_(dzd_Sr[rows], ad_ErI[e])
                dad_ErI[e].addmm_((dzd_Sr[rows] * weight_N1).t(), h_NI)
                torch.sum(h_NI.mul_(dwh_NI), dim=1, out=dweight_S[rows])
                dh_NI = dwh_NI.mul_(weight_N1)
                dup_NI = torch.mul(dh_NI, act_NI, out=dup_BI[own])
                dgate_NI = dgate_BI[own]
                torch.ops.aten.silu_backward.grad_input(dh_NI.mul_(up_NI), gate_NI, grad_input=dgate_NI)
                for d_NI, z_Sr, b_EIr, dz_Sr, db_EIr in (
                    (dgate_NI, zg_Sr, bg_EIr, dzg_Sr, dbg_EIr),
                    (dup_NI, zu_Sr, bu_EIr, dzu_Sr, dbu_EIr),
                ):
                    torch.mm(d_NI, b_EIr[e], out=dz_Sr[rows])
                    db_EIr[e].addmm_(d_NI.t(), z_Sr[rows], alpha=scale)
            dg.append(_sum_bags(dgate_BI, blocks.bag_TK[tokens]))
            du.append(_sum_bags(dup_BI, blocks.bag_TK[tokens]))
        dzg_TR = _scatter(dzg_Sr.mul_(scale), blocks.slot_S, shape=dzd_TR.shape)
        dzu_TR = _scatter(dzu_Sr.mul_(scale), blocks.slot_S, shape=dzd_TR.shape)
        dweight_TK = torch.empty_like(ctx.weight_like)
        dweight_TK.view(-1)[blocks.order_S] = dweight_S.to(dweight_TK.dtype)
        return _joined(dg), _joined(du), dzg_TR, dzu_TR, dbg_EIr, dbu_EIr, dad_ErI, dweight_TK, None, None


def _sum_bags(rows_BI: Tensor, bag_TK: Tensor) -> Tensor:
    """Sum of the K rows of each token, [T, I]. An embedding bag gathers and adds in one parallel pass."""
    return F.embedding_bag(bag_TK, rows_BI, mode="sum")


def _joined(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def _scatter(z_Sr: Tensor, slot_S: Tensor, *, shape: torch.Size) -> Tensor:
    return (
        z_Sr.new_zeros(shape[0] * shape[1] // z_Sr.size(1), z_Sr.size(1))
        .index_copy_(0, slot_S, z_Sr)
        .view(shape)
    )
