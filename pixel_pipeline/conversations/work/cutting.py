"""Where a large text is cut, so that many can read it at once.

A cut has to lie between two records. Whether one does is not known without reading everything before it; what follows it
tells with near certainty. Whoever converts a range sees whether a record ends where it ends, and that is the proof: the
first range begins well, so each begins well whose predecessors end well (`UnalignedRange`).
"""

from collections.abc import Iterator
import csv
import io
import re

import orjson

from pixel_pipeline.conversations.containers.csv import table as csv_table
from pixel_pipeline.conversations.containers.json import array as json_array
from pixel_pipeline.conversations.containers.opened import Opening
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.work import plan as tasks
from pixel_pipeline.conversations.work.plan import Piece
from pixel_pipeline.lake.loader.json_elements import JsonStructureError, json_elements

WINDOW_BYTES = 256 << 10
# Where no cut is found in so many bytes, none is made.
FARTHEST_BYTES = 8 << 20
_LINE_END = re.compile(rb"\n")
_COMMA = re.compile(rb",(?=[ \t\r\n]*\{)")
_ELEMENTS = 2
_ROWS = 8


def cut(source: SourceObject, stream: io.RawIOBase, opening: Opening | None) -> list[Piece]:
    """Returns an object in ranges of about TASK_BYTES; in one piece where it has to be read whole.

    Args:
        stream: The object; read here and there.
        opening: As `containers.open_container` has it.
    """
    count = round(source.size / tasks.TASK_BYTES)
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
    """Offset of the first record that begins at an offset or soon behind it; None where none is found."""
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
    """Whether elements like the first one follow, and no list ends: turns of a conversation are elements too."""
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
    """Whether rows as wide as the header follow. Within a quoted cell, the line that ends it has an odd number of quotes."""
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
    """Lines of a text for the csv module; counts the quotes of those that it took. The last one may be cut."""

    def __init__(self, text: bytes) -> None:
        self._lines = iter(text.split(b"\n")[:-1])
        self.quotes = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.quotes += line.count(b'"')
            yield line.removesuffix(b"\r").decode("utf-8", "replace") + "\n"
