"""Cuts a large text into byte ranges that can be converted in parallel.

A cut must be between two records. Only reading everything before it can prove that, but the text after it makes it nearly
certain. The conversion of a range notices if the range does not end at a record boundary (`UnalignedRange`). The first range
starts at one, so if all ranges end at one, all start at one.
"""

from collections.abc import Iterator
import csv
import io
import re

import orjson

from pixel_pipeline.conversations.containers.container import Opening
from pixel_pipeline.conversations.containers.csv import csv_table
from pixel_pipeline.conversations.containers.json import json_array
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.work import plan
from pixel_pipeline.conversations.work.plan import Piece
from pixel_pipeline.lake.loader.json_elements import JsonStructureError, json_elements

WINDOW_BYTES = 256 << 10
# Give up on a cut after this many bytes.
FARTHEST_BYTES = 8 << 20
_LINE_END = re.compile(rb"\n")
_COMMA = re.compile(rb",(?=[ \t\r\n]*\{)")
_ELEMENTS = 2
_ROWS = 8


def cut(source: SourceObject, stream: io.RawIOBase, opening: Opening | None) -> list[Piece]:
    """Split an object into ranges of about TASK_BYTES; return one piece if it cannot be split.

    Args:
        stream: The object, seekable.
        opening: From `open_container`; None if the container cannot be read from the middle.
    """
    count = round(source.size / plan.TASK_BYTES)
    if opening is None or count < 2:
        return [Piece.whole(source)]
    edges = [opening.start]
    for number in range(1, count):
        edge = _edge(stream, opening, at=source.size * number // count)
        if edge is not None and edges[-1] < edge < source.size:
            edges.append(edge)
    if len(edges) == 1:
        return [Piece.whole(source)]
    ends = [*edges[1:], source.size]
    return [Piece(source, start, end, opening) for start, end in zip(edges, ends, strict=True)]


def _edge(stream: io.RawIOBase, opening: Opening, *, at: int) -> int | None:
    """Offset of the first record that starts at or soon after an offset; None if none is found."""
    size = WINDOW_BYTES
    while True:
        stream.seek(at - 1)
        window = stream.read(size) or b""
        ended = len(window) < size
        for found in (_COMMA if opening.container == json_array.NAME else _LINE_END).finditer(window):
            if found.end() < len(window) and _begins_record(window[found.end() :], opening, ended=ended):
                return at - 1 + found.end()
        if ended or size >= FARTHEST_BYTES:
            return None
        size *= 4


def _begins_record(text: bytes, opening: Opening, *, ended: bool) -> bool:
    if opening.container == json_array.NAME:
        return _begins_element(text, opening)
    return opening.container != csv_table.NAME or _begins_row(text, opening, ended=ended)


def _begins_element(text: bytes, opening: Opening) -> bool:
    """Whether elements with the keys of the first one follow. Turns inside a conversation are array elements too, with other keys."""
    elements = json_elements([b"[", text])
    try:
        for _ in range(_ELEMENTS):
            value = orjson.loads(next(elements).data)
            if not isinstance(value, dict) or value.keys().isdisjoint(opening.names):
                return False
    except (JsonStructureError, orjson.JSONDecodeError, StopIteration):
        return False
    return True


def _begins_row(text: bytes, opening: Opening, *, ended: bool) -> bool:
    """Whether rows as wide as the header follow. If the text starts inside a quoted cell, the line that ends it has an odd number of quotes."""
    lines = _Lines(text)
    rows = 0
    try:
        for row in csv.reader(lines, delimiter=opening.delimiter, strict=True):
            if len(row) != len(opening.names) or lines.quotes % 2:
                return False
            lines.quotes, rows = 0, rows + 1
            if rows == _ROWS:
                return True
    except csv.Error:
        return False
    return ended and rows > 0


class _Lines:
    """Lines of a text for the csv module, counting the quotes of the lines read. The last line may be incomplete and is left out."""

    def __init__(self, text: bytes) -> None:
        self._lines = iter(text.split(b"\n")[:-1])
        self.quotes = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.quotes += line.count(b'"')
            yield line.removesuffix(b"\r").decode("utf-8", "replace") + "\n"
