"""Attention and targets of packed rows. Imports torch.

Conversations share a row; `segments` numbers them from 1, with 0 for padding. Attention never crosses segments.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """A batch of B rows of L tokens, ready for the model.

    Attributes:
        tokens: int64 [B, L].
        positions: int64 [B, L]; restart at 0 in each segment.
        real: bool [B, L]; False at padding.
        target_index: int64 [N]; flat positions (of B * L) whose next token is a target.
        targets: int64 [N]; those next tokens.
        families: Family of each row; None if unknown.
    """

    tokens: Tensor
    positions: Tensor
    real: Tensor
    target_index: Tensor
    targets: Tensor
    families: tuple[str | None, ...]

    @property
    def documents(self) -> Tensor:
        """int64 [B, L]: segment number within the row, from 1; padding is its own segment."""
        return (self.positions == 0).cumsum(dim=1)

    @property
    def attention(self) -> Tensor:
        """float32 [B, 1, L, L], added to the scores: 0 where a query (row) may attend to a key (column). Computed at each use."""
        return segment_attention(self.documents)

    def split(self, rows: int) -> "tuple[Self, ...]":
        """Micro-batches of at most `rows` rows, in order."""
        if rows >= self.tokens.size(0):
            return (self,)
        length = self.tokens.size(1)
        parts = []
        for start in range(0, self.tokens.size(0), rows):
            inside = slice(start, start + rows)
            # Positions are ascending.
            first, last = torch.searchsorted(
                self.target_index,
                torch.tensor([start * length, (start + rows) * length], device=self.tokens.device),
            ).tolist()
            parts.append(
                replace(
                    self,
                    tokens=self.tokens[inside],
                    positions=self.positions[inside],
                    real=self.real[inside],
                    target_index=self.target_index[first:last] - start * length,
                    targets=self.targets[first:last],
                    families=self.families[inside],
                )
            )
        return tuple(parts)

    def to(self, device: torch.device) -> Self:
        """Move the batch to a device."""
        moved: dict[str, Any] = {
            column.name: value.to(device)
            if isinstance(value := getattr(self, column.name), Tensor)
            else value
            for column in fields(self)
        }
        return replace(self, **moved)


def pack_batch(
    tokens: Tensor, *, loss_mask: Tensor, segments: Tensor, families: tuple[str | None, ...] | None = None
) -> PackedBatch:
    """Prepare a batch; tensors are [B, L] as in the shards, and `families` has B names."""
    tokens = tokens.long()
    target_index, targets = next_token_targets(tokens, loss_mask=loss_mask, segments=segments)
    return PackedBatch(
        tokens=tokens,
        positions=segment_positions(segments),
        real=segments > 0,
        target_index=target_index,
        targets=targets,
        families=families or (None,) * len(tokens),
    )


def segment_positions(segments: Tensor) -> Tensor:
    """int64 [B, L]: distance from the first token of the segment."""
    index = torch.arange(segments.size(1), device=segments.device).expand(segments.shape)
    starts = torch.zeros_like(index)
    starts[:, 1:] = torch.where(segments[:, 1:] != segments[:, :-1], index[:, 1:], 0)
    return index - starts.cummax(dim=1).values


def segment_attention(segments: Tensor) -> Tensor:
    """float32 [B, 1, L, L]: block-diagonal causal mask.

    Padding is its own block, so that every query attends at least to itself and no row of scores is all -inf.
    """
    length = segments.size(1)
    allowed = segments[:, :, None] == segments[:, None, :]
    allowed &= torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    blocked = torch.zeros(allowed.shape, device=segments.device).masked_fill_(~allowed, float("-inf"))
    return blocked.unsqueeze(1)


def next_token_targets(tokens: Tensor, *, loss_mask: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """(flat positions [N], next tokens [N]) of the positions whose successor is a target in the same segment."""
    counted = torch.zeros(tokens.shape, dtype=torch.bool, device=tokens.device)
    counted[:, :-1] = (loss_mask[:, 1:] > 0) & (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    target_index = counted.flatten().nonzero().squeeze(1)
    return target_index, tokens.flatten().index_select(0, target_index + 1)
