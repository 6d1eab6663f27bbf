"""Conversations of many lengths into rows of one length, whole wherever they fit.

Best-fit-decreasing (Johnson 1974), rows then in a seeded order. A conversation longer than a row is cut into
pieces of a row's length; every token is kept and each piece is a segment of its own.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixel_pipeline.tokens.chat_template import EncodedConversation


@dataclass(frozen=True)
class PackedRows:
    """Packed rows of L tokens.

    Attributes:
        tokens: int32 [rows, L], padded at the end.
        loss_mask: uint8 [rows, L], 1 where the token is a target. Never the first token of a segment.
        segments: int16 [rows, L], 0 for padding, else 1.. within the row.
    """

    tokens: NDArray[np.int32]
    loss_mask: NDArray[np.uint8]
    segments: NDArray[np.int16]

    @property
    def token_count(self) -> int:
        """Tokens that are not padding."""
        return int((self.segments > 0).sum())

    @property
    def loss_token_count(self) -> int:
        """Tokens that are targets."""
        return int(self.loss_mask.sum(dtype=np.int64))


def pack(conversations: Sequence[EncodedConversation], *, length: int, pad_id: int, seed: int) -> PackedRows:
    """Pack conversations into rows of `length` tokens.

    Rows are shuffled by `seed` at the end: decreasing order would otherwise put the long conversations first.
    """
    pieces = [piece for conversation in conversations for piece in _cut(conversation, length)]
    order = sorted(range(len(pieces)), key=lambda i: (-len(pieces[i].tokens), i))
    rows: list[list[int]] = []
    # Rows by free space, (space, row): the tightest row that still fits is found by bisection.
    free: list[tuple[int, int]] = []
    for index in order:
        size = len(pieces[index].tokens)
        place = bisect_left(free, (size, -1))
        if place < len(free):
            space, row = free.pop(place)
        else:
            space, row = length, len(rows)
            rows.append([])
        rows[row].append(index)
        if space > size:
            insort(free, (space - size, row))
    np.random.default_rng(seed).shuffle(rows)
    tokens = np.full((len(rows), length), pad_id, np.int32)
    loss_mask = np.zeros((len(rows), length), np.uint8)
    segments = np.zeros((len(rows), length), np.int16)
    for row, members in enumerate(rows):
        start = 0
        for segment, index in enumerate(members, 1):
            end = start + len(pieces[index].tokens)
            tokens[row, start:end] = pieces[index].tokens
            loss_mask[row, start:end] = pieces[index].loss_mask
            # Nothing within the segment precedes its first token, so nothing can predict it.
            loss_mask[row, start] = 0
            segments[row, start:end] = segment
            start = end
    return PackedRows(tokens=tokens, loss_mask=loss_mask, segments=segments)


def _cut(conversation: EncodedConversation, length: int) -> list[EncodedConversation]:
    return [
        EncodedConversation(
            tokens=conversation.tokens[start : start + length],
            loss_mask=conversation.loss_mask[start : start + length],
        )
        for start in range(0, len(conversation.tokens), length)
    ]
