"""Whole columns of turns looked at at once: which conversations need a closer look, and what each is hashed over.

The texts of many turns lie one after another in one Arrow buffer. A handful of passes over its bytes costs less than one
look at each turn, and most turns need no second one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# ASCII controls and blanks.
WHITE = bytes(range(0x21))
# First bytes of characters that NFC never changes: ASCII, continuation bytes, Latin-1 letters, general punctuation, ideographs.
# General punctuation (E2) holds a few that it does; what follows tells.
_NFC_SETTLED = np.zeros(256, np.bool_)
_NFC_SETTLED[:0xC0] = True
_NFC_SETTLED[[0xC2, 0xC3, 0xE2, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9]] = True


class Texts(NamedTuple):
    """Texts one after another.

    Attributes:
        array: The texts, type string, without nulls.
        data: Their UTF-8 bytes.
        offsets: Where each begins in `data`, and the end of the last.
    """

    array: pa.Array
    data: npt.NDArray[np.uint8]
    offsets: Ints

    def rows(self, positions: Ints) -> Ints:
        """The texts in which bytes stand."""
        return np.searchsorted(self.offsets, positions, side="right") - 1


def texts_of(values: Sequence[str]) -> Texts:
    """Lays texts out. Raises UnicodeEncodeError where one holds a lone surrogate."""
    array = pa.array(values, pa.string(), size=len(values))
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int32)[: len(array) + 1].astype(np.int64)
    content = np.frombuffer(data, np.uint8)[: bounds[-1]] if data is not None else np.empty(0, np.uint8)
    return Texts(array, content, bounds)


def dirty(texts: Texts) -> Flags:
    """Texts that `text.clean` may change: all that it would, and some others."""
    data = texts.data
    flags = np.zeros(len(texts.array), np.bool_)
    controls = data < 0x20
    if np.count_nonzero(controls) > np.count_nonzero(data == 0x0A) + np.count_nonzero(data == 0x09):
        flags[texts.rows(np.flatnonzero(controls & (data != 0x0A) & (data != 0x09)))] = True
    for byte in (0x7F, ord("&"), ord("<")):
        flags[texts.rows(np.flatnonzero(data == byte))] = True
    leads = np.flatnonzero(data >= 0xC2)
    if len(leads):
        first, second = data[leads], data[leads + 1]
        # U+0080 to U+00BF, and what mojibake and invisible characters begin with (`text._clean_beyond_ascii`).
        odd = (first == 0xC2) | (first == 0xC3) & (second == 0x83)
        odd |= (first == 0xEF) & (second == 0xBB)
        general = np.flatnonzero((first == 0xE2) & (second <= 0x82))
        third = data[leads[general] + 2]
        second = second[general]
        odd[general] |= (
            (second == 0x80) & (third == 0x8B)
            | (second == 0x81) & (third == 0xA0)
            | (second == 0x82) & (third == 0xAC)
        )
        flags[texts.rows(leads[odd])] = True
    return flags


def holds(texts: Texts, *needles: bytes) -> Flags:
    """Texts in which one of some byte sequences stands."""
    flags = np.zeros(len(texts.array), np.bool_)
    content = texts.data.tobytes()
    for needle in needles:
        found = content.find(needle)
        while found >= 0:
            flags[texts.rows(np.array([found]))] = True
            found = content.find(needle, found + 1)
    return flags


def blank(texts: Texts) -> Flags:
    """Texts that are empty or white space alone."""
    sizes = np.diff(texts.offsets)
    flags: Flags = sizes == 0
    first = (
        texts.data[np.minimum(texts.offsets[:-1], max(len(texts.data) - 1, 0))] if len(texts.data) else sizes
    )
    # White space beyond ASCII begins with C2, E1, E2 or E3.
    maybe = np.flatnonzero(~flags & ((first <= 0x20) | (first == 0xC2) | ((first >= 0xE1) & (first <= 0xE3))))
    for row in maybe.tolist():
        flags[row] = texts.array[row].as_py().isspace()
    return flags


def black_sizes(texts: Texts) -> Ints:
    """Bytes of each text that are not WHITE."""
    white = np.searchsorted(np.flatnonzero(texts.data <= 0x20), texts.offsets)
    return np.diff(texts.offsets) - np.diff(white)


def unsettled(texts: Texts) -> Flags:
    """Texts that hold white space beyond ASCII, or are perhaps not in NFC."""
    data = texts.data
    flags = np.zeros(len(texts.array), np.bool_)
    leads = np.flatnonzero(data >= 0xC2)
    if len(leads):
        first, second = data[leads], data[leads + 1]
        odd = ~_NFC_SETTLED[first]
        # Full-width forms; of the ideographs' punctuation all but the tone marks.
        odd &= ~((first == 0xEF) & ((second == 0xBC) | (second == 0xBD)))
        punctuation = np.flatnonzero((first == 0xE3) & (second == 0x80))
        third = data[leads[punctuation] + 2]
        odd[punctuation] = (third == 0x80) | (third >= 0xAA)
        odd |= (first == 0xC2) & ((second == 0x85) | (second == 0xA0))
        # White space: U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F. Not NFC: U+2000 and U+2001; U+2126, U+212A and U+212B; U+2329 and U+232A; U+2ADC.
        general = np.flatnonzero(first == 0xE2)
        second, third = second[general], data[leads[general] + 2]
        odd[general] = (
            (second == 0x80) & ((third <= 0x8A) | (third == 0xA8) | (third == 0xA9) | (third == 0xAF))
            | (second == 0x81) & (third == 0x9F)
            | (second == 0x84) & (third >= 0xA6)
            | (second == 0x8C)
            | (second == 0xAB)
        )
        flags[texts.rows(leads[odd])] = True
    return flags
