"""The elements of a huge JSON array, without reading it whole. They are cut out, not parsed."""

from collections.abc import Generator, Iterable
from enum import Enum
from itertools import chain
import re
from typing import NamedTuple

import orjson

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.loader.compression import blocks
from pixel_pipeline.lake.loader.json_structure import CLOSE, COMMA, OPEN, Scanner

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Limit of the loader. Conversion passes a smaller one of its own.
DEFAULT_MAX_RECORD_BYTES = 256 * 1024**2
WHITESPACE = b" \t\n\r"
_KEY = re.compile(rb'[ \t\n\r]*("(?:[^"\\]|\\.)*+")[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)
_MAX_KEY_BYTES = 64 * 1024
# Smaller than for lines: the marks of a block have to fit into the processor's cache with it.
BLOCK_BYTES = 128 * 1024


class JsonStructureError(PixelError):
    """The text around the elements is not a JSON array.

    Attributes:
        offset: Offset of the wrong byte.
        rest: With `keep_rest`, the text from there, or from the start of the unfinished element, to be read once. None if it is no
            longer known.
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
    """One element of the array, unparsed.

    Attributes:
        offset: Offset of its first byte.
        data: Its bytes, possibly with trailing white space; empty if it is over the limit.
        size: Size in bytes.
    """

    offset: int
    data: bytes
    size: int


class _Place(Enum):
    BEFORE = 1
    MEMBERS = 2
    ELEMENTS = 3
    AFTER = 4


def json_elements(
    chunks: Iterable[bytes | memoryview],
    *,
    field: str | None = None,
    max_element_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    name: str = "The text",
    offset: int = 0,
    beside: list[bytes] | None = None,
    keep_rest: bool = False,
) -> Generator[Element, None, None]:
    """Cut a JSON array into its elements, in memory bounded by the largest of them.

    Args:
        chunks: The text, in chunks of any size.
        field: The member with the array, if the text is an object. Other members are only checked for balanced brackets.
        max_element_bytes: A larger element has offset and size, but no data.
        name: Name of the text in errors.
        offset: Offset of the first byte, for a text that is part of another.
        beside: Receives the other members unparsed, key and value, as reading passes them; for one over 64 KiB the key and
            `{"bytes": its size}`.
        keep_rest: Attach the rest of the text to errors about elements.

    Raises:
        JsonStructureError: no such array, a text that ends within it, a missing element, or text after the end. The elements
            before the error are yielded first. Invalid elements are only noticed when they are parsed.
    """
    scanner = Scanner()
    place, base = _Place.BEFORE, 1
    count = 0
    found = False
    # The current element or member: its pieces from earlier blocks, if they are within the limit, and their size.
    pieces: list[bytes] = []
    held = 0
    long_key: re.Match[bytes] | None = None
    block_offset = offset

    source = blocks(chunks, size=BLOCK_BYTES)

    def wrong(problem: str, position: int, rest: bytes | None = None) -> JsonStructureError:
        error = JsonStructureError(
            f"{name} is not the JSON expected: {problem} at byte {block_offset + position:,}, after {count:,} elements.",
            hint="JSON Lines are read by `stream_jsonl`; copy a damaged file into the lake again.",
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
                continue  # the opening bracket
            closes_with = b"]"
            if place is _Place.ELEMENTS:
                if keep_rest and kind == CLOSE and block[position : position + 1] != b"]":
                    # The last element lacks a closing bracket.
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
                elif kind == COMMA or count:
                    raise wrong("a comma without an element", position, block[position:])
            else:
                if depth != {OPEN: 2, COMMA: 1, CLOSE: 0}[kind]:
                    continue  # within another member
                member = b"".join([*pieces, block[start : min(position, start + _MAX_KEY_BYTES)]])
                key = _KEY.match(member) if held <= _MAX_KEY_BYTES else None
                if key is not None and _text(key[1]) == field:
                    if found or kind != OPEN or block[position : position + 1] != b"[":
                        raise wrong("a second such member" if found else "no array in the member", position)
                    place = _Place.ELEMENTS
                elif kind == OPEN:
                    continue
                elif beside is not None and (key := key or long_key) is not None:
                    size = held + position - start
                    whole = size <= _MAX_KEY_BYTES
                    beside.append(member if whole else b'%b: {"bytes": %d}' % (key[1], size - key.end()))
                closes_with = b"}"
            pieces, held, start, long_key = [], 0, position + 1, None
            if kind == CLOSE:
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
