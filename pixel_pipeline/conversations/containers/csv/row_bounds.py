"""Bounds of many CSV rows at once, as long as their quotes are correct.

The number of quotes before a line end decides whether it ends a row, provided that each opening quote begins a cell and each
closing quote ends one.
"""

from typing import NamedTuple

import numpy as np

from pixel_pipeline.conversations.model.columns import Bytes, Flags, Ints, places_of

_QUOTE, _FEED, _RETURN = b'"\n\r'


class RowBounds(NamedTuple):
    """The rows of a block.

    Attributes:
        starts, ends: Bounds of each row, without its line feed.
        size: Size of all of them.
        in_order: Whether they end with the block or at an open cell, not at a misplaced quote or carriage return.
        returns: Flags rows with a carriage return in a cell.
        delimiters: Number of delimiters in each row, including those within cells.
    """

    starts: Ints
    ends: Ints
    size: int
    in_order: bool
    returns: Flags
    delimiters: Ints


def row_bounds(text: bytes, delimiter: str, *, ended: bool) -> RowBounds:
    """Find the rows of a block.

    Args:
        text: Whole lines, beginning with a row.
        ended: Whether the end of the text ends the last row.
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
    lone = bare[data[np.minimum(bare + 1, len(data) - 1)] != _FEED]
    wrong = min(wrong, int(lone[0]) if len(lone) else len(data))
    if ended and text and not text.endswith(b"\n") and len(quotes) % 2 == 0:
        ends = np.append(ends, len(data))
    ends = ends[: np.searchsorted(ends, wrong, side="left" if wrong < len(data) else "right")]
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    size = min(int(ends[-1]) + 1, len(data)) if len(ends) else 0
    in_rows = returns[returns < size]
    rows = np.searchsorted(starts, in_rows, side="right") - 1
    with_returns = np.zeros(len(starts), np.bool_)
    with_returns[rows[in_rows != ends[rows] - 1]] = True
    separators = np.searchsorted(places[kinds == separator], np.append(starts, size))
    return RowBounds(starts, ends, size, wrong == len(data), with_returns, np.diff(separators))


def _first_wrong_quote(data: Bytes, quotes: Ints, separator: int) -> int:
    opening, closing = quotes[::2], quotes[1::2]
    before = data[opening - 1]
    good = (before == separator) | (before == _FEED) | (before == _QUOTE) | (opening == 0)
    behind = data[np.minimum(closing + 1, len(data) - 1)]
    ends = (behind == separator) | (behind == _FEED) | (behind == _QUOTE) | (closing == len(data) - 1)
    ends |= (behind == _RETURN) & (data[np.minimum(closing + 2, len(data) - 1)] == _FEED)
    wrong = [int(found[0]) for found in (opening[~good], closing[~ends]) if len(found)]
    return min(wrong, default=len(data))
