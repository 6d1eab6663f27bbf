"""Scans over the texts of many turns at once, to find the few that need individual treatment.

The texts of many turns are stored one after another in one Arrow buffer. A few passes over its bytes cost less than one check
of each turn, and most turns need nothing more.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_NONE = np.zeros(1, np.int32)
_NOWHERE = np.empty(0, np.int64)
_PIECE = 1 << 17
# First bytes of all that cleaning may change, apart from control characters: delete, markup, U+0080 to U+00BF, mojibake and
# invisible characters (`text.cleaning._clean_beyond_ascii`).
_DIRT = b"\x7f & < \xc2 \xc3\x83 \xef\xbb \xe2\x80\x8b \xe2\x81\xa0 \xe2\x82\xac".split()


def places_of(data: Bytes, wanted: bytes) -> Ints:
    """Positions at which one of the wanted bytes occurs."""

    def mark(piece: Bytes, marks: Flags, more: Flags) -> None:
        np.equal(piece, wanted[0], out=marks)
        for byte in wanted[1:]:
            np.equal(piece, byte, out=more)
            np.logical_or(marks, more, out=marks)

    return _marked(data, mark)


def _marked(data: Bytes, mark: Callable[[Bytes, Flags, Flags], None]) -> Ints:
    """Positions of the bytes that `mark` flags; it gets a piece of the data, the flags to set, and as many to use as it likes.

    A piece fits into a core's cache, and the flags' memory is allocated once: fresh memory costs more than the comparison.
    """
    size = min(len(data), _PIECE)
    marks, more = np.empty(size, np.bool_), np.empty(size, np.bool_)
    found = [_NOWHERE]
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE]
        marks, more = marks[: len(piece)], more[: len(piece)]
        mark(piece, marks, more)
        places = np.flatnonzero(marks)
        places += start
        found.append(places)
    return np.concatenate(found)


def _mark_controls(piece: Bytes, marks: Flags, more: Flags) -> None:
    np.less(piece, 0x20, out=marks)
    np.equal(piece, 0x0A, out=more)
    np.logical_xor(marks, more, out=marks)


def _mark_c4_to_e1(piece: Bytes, marks: Flags, more: Flags) -> None:
    # Smaller values wrap around.
    np.subtract(piece, 0xC4, out=more.view(np.uint8))
    np.less_equal(more.view(np.uint8), 0xE1 - 0xC4, out=marks)


class Texts:
    """A column of texts and their bytes.

    Args:
        array: The texts, type string. Null counts as an empty text.

    Attributes:
        array: The texts.
        data: Their UTF-8 bytes.
        offsets: Start of each text in `data`, then the end of the last.
    """

    def __init__(self, array: pa.Array) -> None:
        _, offsets, data = array.buffers()
        bounds = (
            np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
            if len(array)
            else _NONE
        )
        self.array = array
        self.data = np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]]
        self.offsets: Ints = bounds.astype(np.int64) - bounds[0]
        self._found: dict[int, Ints] = {}

    def rows(self, positions: Ints) -> Ints:
        """Indices of the texts that contain these byte positions."""
        return np.searchsorted(self.offsets, positions, side="right") - 1

    @cached_property
    def highest(self) -> int:
        """The highest byte; 0 if there are none."""
        return int(self.data.max(initial=0))

    def where(self, *sequence: int) -> Ints:
        """Positions of a sequence of bytes: a single byte, or the first bytes of a character."""
        first, *behind = sequence
        found = self._where(first)
        for distance, byte in enumerate(behind, 1):
            if not len(found):
                break
            found = found[self.data[found + distance] == byte]
        return found

    def _where(self, byte: int) -> Ints:
        if byte not in self._found:
            # Most bytes do not occur: `find` costs a fraction of a comparison with all bytes.
            self._found[byte] = (
                _NOWHERE
                if byte > self.highest or self._bytes.find(byte) < 0
                else places_of(self.data, bytes([byte]))
            )
        return self._found[byte]

    @cached_property
    def _bytes(self) -> bytes:
        return self.data.tobytes()


def nulls_of(array: pa.Array) -> Flags:
    """Flag the null values."""
    flags: Flags = array.is_null().to_numpy(zero_copy_only=False)
    return flags


def texts_of(values: Sequence[str]) -> Texts:
    """Make a column of texts. Raises UnicodeEncodeError if one contains a lone surrogate."""
    return Texts(pa.array(values, pa.string(), size=len(values)))


def dirty(texts: Texts) -> Flags:
    """Flag the texts that `text.cleaning.clean` may change: all that it would, and some others."""
    flags = np.zeros(len(texts.array), np.bool_)
    controls = _marked(texts.data, _mark_controls)
    flags[texts.rows(controls[texts.data[controls] != 0x09])] = True
    for sequence in _DIRT:
        flags[texts.rows(texts.where(*sequence))] = True
    return flags


def tagged(texts: Texts) -> Flags:
    """Flag the texts that may contain a tag of the other speaker, `者：` or `师：` (`formats.turn_lists.turn_list`)."""
    flags = np.zeros(len(texts.array), np.bool_)
    data, colons = texts.data, texts.where(*"：".encode())
    colons = colons[colons >= 3]
    for letter in ("者".encode(), "师".encode()):
        follows = np.logical_and.reduce([data[colons - 3 + n] == byte for n, byte in enumerate(letter)])
        flags[texts.rows(colons[follows])] = True
    return flags


def blank(texts: Texts) -> Flags:
    """Flag the texts that are empty or only white space."""
    # Arrow's white space is that of `str.isspace`.
    flags: Flags = pc.utf8_is_space(texts.array).fill_null(False).to_numpy(zero_copy_only=False)
    flags |= np.diff(texts.offsets) == 0
    return flags


def unsettled(texts: Texts) -> Flags:
    """Flag the texts that may not be in NFC: all with characters other than ASCII, Latin-1 letters, general punctuation,
    ideographs and their punctuation, and full-width forms, which NFC never changes."""
    data = texts.data
    flags = np.zeros(len(texts.array), np.bool_)
    if texts.highest < 0xC4:
        return flags
    odd = [_marked(data, _mark_c4_to_e1)]
    if texts.highest >= 0xEA:
        odd.append(np.flatnonzero((data >= 0xEA) & (data != 0xEF)))
    forms = texts.where(0xEF)
    odd.append(forms[(data[forms + 1] != 0xBC) & (data[forms + 1] != 0xBD)])
    # Tone marks among the punctuation of ideographs.
    punctuation = texts.where(0xE3)
    odd.append(punctuation[(data[punctuation + 1] != 0x80) | (data[punctuation + 2] >= 0xAA)])
    # U+2000 and U+2001; U+2126, U+212A and U+212B; U+2329 and U+232A; U+2ADC.
    general = texts.where(0xE2)
    second, third = data[general + 1], data[general + 2]
    odd.append(
        general[
            (second == 0x80) & (third <= 0x81)
            | (second == 0x84) & (third >= 0xA6)
            | (second == 0x8C)
            | (second == 0xAB)
        ]
    )
    flags[texts.rows(np.concatenate(odd))] = True
    return flags
