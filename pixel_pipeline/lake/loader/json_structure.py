"""Brackets and commas of a JSON text, found a block at a time.

numpy finds quotes, brackets and commas, drops those within strings and counts depth; Python only sees the positions that matter
at a given depth.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

_BACKSLASH, _QUOTE, OPEN, CLOSE, COMMA = 1, 2, 3, 4, 5
_KIND_OF = {
    b"\\": _BACKSLASH,
    b'"': _QUOTE,
    b"[": OPEN,
    b"{": OPEN,
    b"]": CLOSE,
    b"}": CLOSE,
    b",": COMMA,
}
_KINDS = bytes(_KIND_OF.get(bytes([byte]), 0) for byte in range(256))
_STEPS = np.array([0, 0, 0, 1, -1, 0], dtype=np.int64)


class Scanner:
    """Scans a JSON text block by block, and keeps string, escape and depth between blocks."""

    def __init__(self) -> None:
        self._in_string = False
        self._escaped = False
        self._depth = 0

    def cuts(self, block: bytes, *, base: int) -> Iterable[tuple[int, int, int]]:
        """Find the commas and brackets outside strings at depth `base` or less.

        Returns:
            Position, kind and the depth after it.
        """
        text = b" " + block[1:] if self._escaped else block
        marks = np.frombuffer(text.translate(_KINDS), dtype=np.uint8)
        positions = np.flatnonzero(marks != 0)
        kinds = marks[positions]
        kinds[self._escaped_marks(positions, kinds, size=len(text))] = 0
        if not len(kinds):
            return ()
        in_string = (np.cumsum(kinds == _QUOTE, dtype=np.int64) + self._in_string) & 1
        self._in_string = bool(in_string[-1])
        outside = np.flatnonzero((in_string == 0) & (kinds > _QUOTE))
        kinds, positions = kinds[outside], positions[outside]
        depths = np.cumsum(_STEPS[kinds]) + self._depth
        if len(depths):
            self._depth = int(depths[-1])
        wanted = np.flatnonzero(depths <= base - (kinds == CLOSE))
        return zip(positions[wanted].tolist(), kinds[wanted].tolist(), depths[wanted].tolist(), strict=True)

    def _escaped_marks(self, positions: Any, kinds: Any, *, size: int) -> Any:
        """Return the indices of marks after an odd run of backslashes, and note whether the block ends with such a run."""
        self._escaped = False
        backslashes = kinds == _BACKSLASH
        if not backslashes.any():
            return []
        index = np.arange(len(kinds))
        follows = np.zeros(len(kinds), dtype=bool)
        follows[1:] = backslashes[:-1] & (np.diff(positions) == 1)
        run_starts = np.maximum.accumulate(np.where(backslashes & ~follows, index, 0))
        run_lengths = index - run_starts  # of the run that ends just before, if any
        self._escaped = bool(backslashes[-1] and positions[-1] == size - 1 and (run_lengths[-1] + 1) % 2)
        return np.flatnonzero(follows & ~backslashes & (run_lengths % 2 == 1))
