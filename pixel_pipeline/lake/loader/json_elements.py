"""The elements of a huge JSON array, without reading it whole.

Structure is found a block at a time: numpy takes the positions of quotes, brackets and commas, drops those within strings
and counts depth; Python sees only the places where an element ends. The elements themselves are not parsed here.
"""

from collections.abc import Generator, Iterable
from enum import Enum
from itertools import chain
import re
from typing import Any, NamedTuple

import numpy as np
import orjson

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.loader.compression import blocks
from pixel_pipeline.lake.loader.json_records import (
    BYTE_ORDER_MARK,
    MAX_RECORD_BYTES,
    BadJsonError,
    JsonRecords,
    OnError,
    parse_again,
)

WHITESPACE = b" \t\n\r"
_BACKSLASH, _QUOTE, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4, 5
_KIND_OF = {
    b"\\": _BACKSLASH,
    b'"': _QUOTE,
    b"[": _OPEN,
    b"{": _OPEN,
    b"]": _CLOSE,
    b"}": _CLOSE,
    b",": _COMMA,
}
_KINDS = bytes(_KIND_OF.get(bytes([byte]), 0) for byte in range(256))
_STEPS = np.array([0, 0, 0, 1, -1, 0], dtype=np.int64)
_KEY = re.compile(rb'[ \t\n\r]*("(?:[^"\\]|\\.)*+")[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)
_MAX_KEY_BYTES = 64 * 1024
# Half of what lines are cut from: the marks of a block have to fit into the cache with it.
BLOCK_BYTES = 128 * 1024


class JsonStructureError(PixelError):
    """The text around the elements is not that of a JSON array.

    Attributes:
        offset: Of the byte where it is not.
        rest: Where it was asked for, the text from there or from the beginning of an element that has no end on, to be read once.
            None where that is not known any more.
        rest_offset: Offset of its first byte.
        at_end: The text ends within the array.
    """

    def __init__(self, message: str, *, hint: str, offset: int) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset
        self.rest: Iterable[bytes] | None = None
        self.rest_offset = offset
        self.at_end = False


class Element(NamedTuple):
    """One element of the array, as it is written.

    Attributes:
        offset: Offset of its first byte.
        data: Its bytes, maybe with white space behind it; empty where it is over the limit.
        size: Size in bytes.
    """

    offset: int
    data: bytes
    size: int


class JsonElements(JsonRecords):
    """Iterates over the parsed elements of `json_elements`."""

    kind = "element"

    def __init__(
        self,
        chunks: Iterable[bytes | memoryview],
        *,
        uri: str,
        field: str | None = None,
        on_error: OnError = "raise",
        max_element_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self._source = json_elements(chunks, field=field, max_element_bytes=max_element_bytes, name=uri)
        self._count = 0
        self._end = 0
        super().__init__(uri=uri, on_error=on_error)

    @property
    def read(self) -> int:
        return self._count - self.skipped

    @property
    def bytes_read(self) -> int:
        return self._end

    def _parsed(self) -> Generator[Any, None, None]:
        loads, decode_error = orjson.loads, orjson.JSONDecodeError
        for offset, data, size in self._source:
            self._count += 1
            self._end = offset + size
            try:
                record = loads(data)
            except decode_error as error:
                try:
                    if not data:
                        raise BadJsonError(f"longer than a record may be, {size:,} bytes") from None
                    record = parse_again(data, error)
                except BadJsonError as bad:
                    self._bad(self._count, offset=offset, size=size, reason=str(bad))
                    continue
            yield record


class _Place(Enum):
    BEFORE = 1
    MEMBERS = 2
    ELEMENTS = 3
    AFTER = 4


def json_elements(
    chunks: Iterable[bytes | memoryview],
    *,
    field: str | None = None,
    max_element_bytes: int = MAX_RECORD_BYTES,
    name: str = "The text",
    offset: int = 0,
    beside: list[bytes] | None = None,
    keep_rest: bool = False,
) -> Generator[Element, None, None]:
    """Cut a JSON array into its elements, in memory bounded by the largest of them.

    Args:
        chunks: The text, in chunks of any size.
        field: Where the text is an object, the member whose value is the array. The other members are looked through for
            balanced brackets only. A text that is an array is taken as it is.
        max_element_bytes: Of a larger element only offset and size are told.
        name: What errors call the text.
        offset: Of the first byte, where the text is part of another.
        beside: Gets the other members as they are written, key and value, once reading is past each; of one of more than
            64 KiB the key and `{"bytes": its size}`.
        keep_rest: An error about the elements has the rest of the text.

    Raises:
        JsonStructureError: no such array, a text that ends within it, an element that is missing, or anything behind it.
            What stands before is handed out first. Damage within an element shows when that is parsed.
    """
    scanner = _Scanner()
    place, base = _Place.BEFORE, 1
    count = 0
    found = False
    # Of the present element or member: its pieces from earlier blocks, while they are within the limit, and their size.
    pieces: list[bytes] = []
    held = 0
    long_key: re.Match[bytes] | None = None
    block_offset = offset

    source = blocks(chunks, size=BLOCK_BYTES)

    def wrong(what: str, position: int, rest: bytes | None = None) -> JsonStructureError:
        error = JsonStructureError(
            f"{name} is not the JSON expected: {what} at byte {block_offset + position:,}, after {count:,} elements.",
            hint="JSON lines are read by `stream_jsonl`; a damaged file has to be copied into the lake again.",
            offset=block_offset + position,
        )
        if keep_rest and rest is not None:
            error.rest = chain([rest], source)
        return error

    for block in source:
        start = 0
        if place is _Place.BEFORE:
            start = len(block) - len(block.lstrip(WHITESPACE + BYTE_ORDER_MARK))
            opening = block[start : start + 1]
            if opening == b"[":
                place = _Place.ELEMENTS
            elif opening == b"{" and field is not None:
                place, base = _Place.MEMBERS, 2
            elif opening:
                raise wrong("no array", start)
            start += 1
        for position, kind, depth in scanner.cuts(block, base=base):
            if place is _Place.AFTER:
                break
            if position < start:
                continue  # the bracket that opens it all
            closes_with = b"]"
            if place is _Place.ELEMENTS:
                if keep_rest and kind == _CLOSE and block[position : position + 1] != b"]":
                    # A bracket that the last element lacks is missing here.
                    error = wrong(
                        "another closing bracket than the opening one",
                        position,
                        b"".join([*pieces, block[start:]]),
                    )
                    error.rest_offset = block_offset + start - held
                    raise error
                size = held + position - start
                pieces.append(block[start:position])
                data = b"".join(pieces).lstrip(WHITESPACE) if size <= max_element_bytes else b""
                if data or size > max_element_bytes:
                    size = len(data) or size
                    yield Element(block_offset + position - size, data, size)
                    count += 1
                elif kind == _COMMA or count:
                    raise wrong("a comma without an element", position, block[position:])
            else:
                if depth != {_OPEN: 2, _COMMA: 1, _CLOSE: 0}[kind]:
                    continue  # within another member
                member = b"".join([*pieces, block[start : min(position, start + _MAX_KEY_BYTES)]])
                key = _KEY.match(member) if held <= _MAX_KEY_BYTES else None
                if key is not None and _text(key[1]) == field:
                    if found or kind != _OPEN or block[position : position + 1] != b"[":
                        raise wrong("a second such member" if found else "no array in the member", position)
                    place = _Place.ELEMENTS
                elif kind == _OPEN:
                    continue
                elif beside is not None and (key := key or long_key) is not None:
                    size = held + position - start
                    whole = size <= _MAX_KEY_BYTES
                    beside.append(member if whole else b'%b: {"bytes": %d}' % (key[1], size - key.end()))
                closes_with = b"}"
            pieces, held, start, long_key = [], 0, position + 1, None
            if kind == _CLOSE:
                if block[position : position + 1] != closes_with:
                    raise wrong("another closing bracket than the opening one", position)
                found = found or place is _Place.ELEMENTS
                place = _Place.MEMBERS if place is _Place.ELEMENTS and base == 2 else _Place.AFTER
        rest = block[start:]
        if place is _Place.AFTER and rest.strip(WHITESPACE):
            behind = len(block) - len(rest.lstrip(WHITESPACE))
            raise wrong("something behind the end", behind, block[behind:])
        held += len(rest)
        kept = held <= (max_element_bytes if place is _Place.ELEMENTS else _MAX_KEY_BYTES)
        if place is _Place.MEMBERS and not kept and long_key is None:
            long_key = _KEY.match(b"".join([*pieces, rest[:_MAX_KEY_BYTES]]))
        pieces = [*pieces, rest] if kept and place is not _Place.AFTER else []
        block_offset += len(block)
    if place is not _Place.AFTER:
        error = wrong("the end", 0, b"".join(pieces) if place is _Place.ELEMENTS and pieces else None)
        error.rest_offset, error.at_end = block_offset - held, True
        raise error
    if not found:
        raise wrong("no such member", 0)


def _text(quoted: bytes) -> str | None:
    try:
        return str(orjson.loads(quoted))
    except orjson.JSONDecodeError:
        return None


class _Scanner:
    """Structure of a JSON text, a block at a time. Holds what a block border cuts: string, escape, depth."""

    def __init__(self) -> None:
        self._in_string = False
        self._escaped = False
        self._depth = 0

    def cuts(self, block: bytes, *, base: int) -> Iterable[tuple[int, int, int]]:
        """Position, kind and depth behind it of the brackets and commas outside strings that matter at a depth.

        These are the commas at `base` or above, the brackets that open up to it, and those that close it.
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
        wanted = np.flatnonzero(depths <= base - (kinds == _CLOSE))
        return zip(positions[wanted].tolist(), kinds[wanted].tolist(), depths[wanted].tolist(), strict=True)

    def _escaped_marks(self, positions: Any, kinds: Any, *, size: int) -> Any:
        """Indices of the marks behind an odd run of backslashes; notes whether the block ends with such a run."""
        self._escaped = False
        backslashes = kinds == _BACKSLASH
        if not backslashes.any():
            return []
        index = np.arange(len(kinds))
        follows = np.zeros(len(kinds), dtype=bool)
        follows[1:] = backslashes[:-1] & (np.diff(positions) == 1)
        run_starts = np.maximum.accumulate(np.where(backslashes & ~follows, index, 0))
        run_lengths = index - run_starts  # of the run that ends just before, where there is one
        self._escaped = bool(backslashes[-1] and positions[-1] == size - 1 and (run_lengths[-1] + 1) % 2)
        return np.flatnonzero(follows & ~backslashes & (run_lengths % 2 == 1))
