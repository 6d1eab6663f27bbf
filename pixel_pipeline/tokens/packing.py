"""Pack conversations into rows of equal length.

Best-fit-decreasing (Johnson 1974), with rows shuffled by a seed. A conversation longer than a row is cut into pieces of a row's
length; every token is kept, and each piece becomes a segment.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixel_pipeline.tokens.chat_template import EncodedConversation


@dataclass(frozen=True)
class PackedRows:
    """Packed rows of L tokens.

    Attributes:
        tokens: int32 [rows, L], padded at the end.
        loss_mask: uint8 [rows, L], 1 for targets; 0 for the first token of a segment.
        segments: int16 [rows, L], numbered from 1 within a row; 0 for padding.
    """

    tokens: NDArray[np.int32]
    loss_mask: NDArray[np.uint8]
    segments: NDArray[np.int16]

    @property
    def token_count(self) -> int:
        """Number of tokens, without padding."""
        return int((self.segments > 0).sum())

    @property
    def loss_token_count(self) -> int:
        """Number of targets."""
        return int(self.loss_mask.sum(dtype=np.int64))

    def split(self, size: int) -> "Iterator[PackedRows]":
        """Yield the rows in groups of `size`."""
        for start in range(0, len(self.tokens), size):
            rows = slice(start, start + size)
            yield PackedRows(self.tokens[rows], self.loss_mask[rows], self.segments[rows])


def pack(conversations: Sequence[EncodedConversation], *, length: int, pad_id: int, seed: int) -> PackedRows:
    """Pack conversations into rows of `length` tokens.

    Rows are shuffled by `seed` at the end; otherwise long conversations would come first.
    """
    pieces = [piece for conversation in conversations for piece in _cut(conversation, length)]
    order = sorted(range(len(pieces)), key=lambda i: (-len(pieces[i].tokens), i))
    rows: list[list[int]] = []
    # (free space, row), sorted: bisection finds the fullest row that still fits.
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
            # No token of the segment precedes its first token, so it cannot be predicted.
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
