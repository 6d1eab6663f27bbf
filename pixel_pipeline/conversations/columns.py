"""Whole columns of turns looked at at once: which conversations need a closer look, and what each is hashed over.

The texts of many turns lie one after another in one Arrow buffer. A handful of passes over its bytes costs less than one
look at each turn, and most turns need no second one.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# First bytes of characters that NFC never changes: ASCII, continuation bytes, Latin-1 letters, general punctuation, ideographs.
# General punctuation (E2) holds a few that it does; what follows tells.
_NFC_SETTLED = np.zeros(256, np.bool_)
_NFC_SETTLED[:0xC0] = True
_NFC_SETTLED[[0xC2, 0xC3, 0xE2, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9]] = True
_NONE = np.zeros(1, np.int32)


class Texts:
    """Texts one after another.

    Args:
        array: The texts, type string. A null is taken for an empty text.

    Attributes:
        array: The texts.
        data: Their UTF-8 bytes.
        offsets: Where each begins in `data`, and the end of the last.
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

    def rows(self, positions: Ints) -> Ints:
        """The texts in which bytes stand."""
        return np.searchsorted(self.offsets, positions, side="right") - 1

    @cached_property
    def leads(self) -> Ints:
        """Where characters beyond ASCII begin that are no ideographs: in these there is never anything the matter."""
        beyond = self.data >= 0xC2
        if not beyond.any():
            return np.empty(0, np.int64)
        return np.flatnonzero(beyond & ((self.data < 0xE4) | (self.data > 0xE9)))


def texts_of(values: Sequence[str]) -> Texts:
    """Lays texts out. Raises UnicodeEncodeError where one holds a lone surrogate."""
    return Texts(pa.array(values, pa.string(), size=len(values)))


def dirty(texts: Texts) -> Flags:
    """Texts that `text.clean` may change: all that it would, and some others."""
    data = texts.data
    flags = np.zeros(len(texts.array), np.bool_)
    odd = data < 0x20
    # Tab and line feed are 9 and 10; bytes below them wrap around.
    odd &= data - np.uint8(9) > 1
    for byte in (0x7F, ord("&"), ord("<")):
        odd |= data == byte
    if odd.any():
        flags[texts.rows(np.flatnonzero(odd))] = True
    leads = texts.leads
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


def tagged(texts: Texts) -> Flags:
    """Texts within which the other side may go on to speak: `者：` or `师：` (`formats.turn_list`)."""
    flags = np.zeros(len(texts.array), np.bool_)
    data, leads = texts.data, texts.leads
    colons = leads[(data[leads] == 0xEF) & (leads >= 3)]
    colons = colons[(data[colons + 1] == 0xBC) & (data[colons + 2] == 0x9A)]
    for letter in ("者".encode(), "师".encode()):
        is_behind = np.logical_and.reduce([data[colons - 3 + n] == byte for n, byte in enumerate(letter)])
        flags[texts.rows(colons[is_behind])] = True
    return flags


def blank(texts: Texts) -> Flags:
    """Texts that are empty or white space alone."""
    flags: Flags = np.diff(texts.offsets) == 0
    if not len(texts.data):
        return flags
    starts, last = texts.offsets[:-1], len(texts.data) - 1
    first, second = (texts.data[np.minimum(starts + n, last)] for n in (0, 1))
    # White space beyond ASCII is U+0085, U+00A0, U+1680, general punctuation and U+3000.
    maybe = (first <= 0x20) | (first == 0xC2) | (first == 0xE1) | (first == 0xE2) & (second <= 0x81)
    maybe |= (first == 0xE3) & (second == 0x80)
    for row in np.flatnonzero(maybe & ~flags).tolist():
        flags[row] = texts.array[row].as_py().isspace()
    return flags


def unsettled(texts: Texts) -> Flags:
    """Texts that are perhaps not in NFC."""
    data = texts.data
    flags = np.zeros(len(texts.array), np.bool_)
    leads = texts.leads
    if len(leads):
        first, second = data[leads], data[leads + 1]
        odd = ~_NFC_SETTLED[first]
        # Full-width forms; of the ideographs' punctuation all but the tone marks.
        odd &= ~((first == 0xEF) & ((second == 0xBC) | (second == 0xBD)))
        punctuation = np.flatnonzero((first == 0xE3) & (second == 0x80))
        third = data[leads[punctuation] + 2]
        odd[punctuation] = third >= 0xAA
        # U+2000 and U+2001; U+2126, U+212A and U+212B; U+2329 and U+232A; U+2ADC.
        general = np.flatnonzero(first == 0xE2)
        second, third = second[general], data[leads[general] + 2]
        odd[general] = (
            (second == 0x80) & (third <= 0x81)
            | (second == 0x84) & (third >= 0xA6)
            | (second == 0x8C)
            | (second == 0xAB)
        )
        flags[texts.rows(leads[odd])] = True
    return flags
