"""The turns of many conversations, column by column."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pixel_pipeline.conversations.model.columns import Flags, Ints, Texts, texts_of

ROLE_CODES = {"system": 0, "user": 1, "assistant": 2, "tool": 3}


class Turns(NamedTuple):
    """The turns of many conversations.

    Attributes:
        roles: ROLE_CODES of all turns.
        texts: Contents of all turns.
        bounds: Index of each conversation's first turn, then the number of turns.
    """

    roles: npt.NDArray[np.uint8]
    texts: Texts
    bounds: Ints

    @classmethod
    def of(cls, roles: Sequence[Sequence[str]], contents: Sequence[Sequence[str]]) -> "Turns":
        """Collect roles and contents of conversations. Raises UnicodeEncodeError if a text has a lone surrogate."""
        codes = np.fromiter(map(ROLE_CODES.__getitem__, chain.from_iterable(roles)), np.uint8)
        texts = texts_of(list(chain.from_iterable(contents)))
        return cls(codes, texts, bounds_of(list(map(len, roles))))

    def conversations_with(self, turns: Flags) -> Flags:
        """Flag the conversations in which a turn is flagged."""
        flags = np.zeros(len(self.bounds) - 1, np.bool_)
        flags[np.searchsorted(self.bounds, np.flatnonzero(turns), side="right") - 1] = True
        return flags

    def only(self, kept: Flags) -> "Turns":
        """Keep the flagged conversations."""
        lengths = np.diff(self.bounds)
        turns = np.repeat(kept, lengths)
        texts = Texts(self.texts.array.filter(pa.array(turns)))
        return Turns(self.roles[turns], texts, bounds_of(lengths[kept]))


def bounds_of(lengths: Ints | list[int]) -> Ints:
    """Bounds of conversations with these numbers of turns."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds
