"""Rows of CSV found many at a time, where every quote stands as it should.

Whether a line end ends a row, the number of quotes before it tells: as long as each that opens stands at the beginning of a
cell, and each that closes at its end.
"""

from typing import NamedTuple

import numpy as np

from pixel_pipeline.conversations.containers import streams
from pixel_pipeline.conversations.containers.streams import Line, PeekableStream
from pixel_pipeline.conversations.model.columns import Flags, Ints, places_of
from pixel_pipeline.conversations.model.records import MAX_RECORD_BYTES

_QUOTE, _FEED, _RETURN = b'"\n\r'


class RowText:
    """A CSV text as it is read: looked at in blocks of whole lines, taken in bytes or lines.

    Attributes:
        offset: Of the first byte that was not taken.
    """

    def __init__(self, content: PeekableStream, *, start: int) -> None:
        self.offset = start
        self.ended = False
        self._content = content
        self._ahead = b""

    @property
    def done(self) -> bool:
        """Whether all was taken, and nothing comes."""
        return self.ended and not self._ahead

    def block(self) -> bytes:
        """The whole lines among the bytes that come next; with the last one, ended by nothing, at the end of the text."""
        while len(self._ahead) < streams.BLOCK and self._read_on():
            pass
        return self._ahead if self.ended else self._ahead[: self._ahead.rfind(b"\n") + 1]

    def take(self, size: int) -> None:
        """Takes bytes of the block."""
        self._ahead = self._ahead[size:]
        self.offset += size

    def line(self) -> Line | None:
        """Takes a line; of one over MAX_RECORD_BYTES only the first bytes are kept."""
        pieces: list[bytes] = []
        size = 0
        while (end := self._ahead.find(b"\n")) < 0:
            if size <= MAX_RECORD_BYTES:
                pieces.append(self._ahead)
            size += len(self._ahead)
            self._ahead = b""
            if not self._read_on():
                break
        if end < 0 and not size:
            return None
        pieces.append(self._ahead[: max(end, 0)])
        size += max(end, 0)
        line = Line(self.offset, b"".join(pieces)[: MAX_RECORD_BYTES + 1], size)
        self._ahead = self._ahead[end + 1 :]
        self.offset += size + (end >= 0)
        return line

    def _read_on(self) -> bool:
        chunk = b"" if self.ended else self._content.read(streams.BLOCK) or b""
        self.ended = not chunk
        self._ahead += chunk
        return not self.ended


class RowBounds(NamedTuple):
    """The rows of a block.

    Attributes:
        starts, ends: Of each row, without its line feed.
        size: Of all of them.
        in_order: They end with the block, or where a cell is open; not before a quote or carriage return out of place.
        returns: Rows with a carriage return in a cell.
        delimiters: How many each row has, those in cells too.
    """

    starts: Ints
    ends: Ints
    size: int
    in_order: bool
    returns: Flags
    delimiters: Ints


def row_bounds(text: bytes, delimiter: str, *, ended: bool) -> RowBounds:
    """Finds rows.

    Args:
        text: Whole lines; a row begins where it begins.
        ended: The last row is ended by the end of the text.
    """
    data = np.frombuffer(text, np.uint8)
    separator = ord(delimiter)
    places = places_of(data, b'"\n' + delimiter.encode() + (b"\r" if b"\r" in text else b""))
    kinds = data[places]
    is_quote = kinds == _QUOTE
    quotes, returns = places[is_quote], places[kinds == _RETURN]
    within = np.logical_xor.accumulate(is_quote)
    ends = places[(kinds == _FEED) & ~within]
    wrong = _first_wrong_quote(data, quotes, separator)
    bare = places[(kinds == _RETURN) & ~within]
    before_other = bare[data[np.minimum(bare + 1, len(data) - 1)] != _FEED]
    wrong = min(wrong, int(before_other[0]) if len(before_other) else len(data))
    if ended and text and not text.endswith(b"\n") and len(quotes) % 2 == 0:
        ends = np.append(ends, len(data))
    ends = ends[: np.searchsorted(ends, wrong, side="left" if wrong < len(data) else "right")]
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    size = min(int(ends[-1]) + 1, len(data)) if len(ends) else 0
    in_rows = returns[returns < size]
    rows = np.searchsorted(starts, in_rows, side="right") - 1
    held = np.zeros(len(starts), np.bool_)
    held[rows[in_rows != ends[rows] - 1]] = True
    separators = np.searchsorted(places[kinds == separator], np.append(starts, size))
    return RowBounds(starts, ends, size, wrong == len(data), held, np.diff(separators))


def _first_wrong_quote(data: np.typing.NDArray[np.uint8], quotes: Ints, separator: int) -> int:
    opening, closing = quotes[::2], quotes[1::2]
    before = data[opening - 1]
    good = (before == separator) | (before == _FEED) | (before == _QUOTE) | (opening == 0)
    behind = data[np.minimum(closing + 1, len(data) - 1)]
    ends = (behind == separator) | (behind == _FEED) | (behind == _QUOTE) | (closing == len(data) - 1)
    ends |= (behind == _RETURN) & (data[np.minimum(closing + 2, len(data) - 1)] == _FEED)
    wrong = [int(found[0]) for found in (opening[~good], closing[~ends]) if len(found)]
    return min(wrong, default=len(data))
