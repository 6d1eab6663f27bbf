"""JSON lines: one JSON value a line, positions are byte offsets. A bad line is quarantined alone, and reading
goes on."""

from collections.abc import Generator, Iterator

import numpy as np
import orjson

from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.containers.opened import PROBE_BYTES, Evidence, Input
from pixel_pipeline.conversations.containers.ranges import Range
from pixel_pipeline.conversations.containers.streams import Line, PeekableStream, iter_blocks
from pixel_pipeline.conversations.model.columns import places_of
from pixel_pipeline.conversations.model.records import (
    MAX_RECORD_BYTES,
    Block,
    Fault,
    Item,
    Record,
    RecordError,
)

NAME = "json_lines"
POSITION_KIND = "byte"
IS_TEXT = True
_MOST_LINES = 50
_SPACE = 0x20
_SUFFIXES = (".jsonl", ".ndjson")


def matches(given: Input) -> Evidence:
    """Whether at least half of the first lines are JSON values of their own, and there is more than one line.

    In a document printed over many lines hardly any is; a document on one line has no second.
    """
    head = given.head
    if head[:64].lstrip()[:1] not in (b"{", b"[", b'"'):
        return Evidence(False, "it does not begin with a JSON value")
    lines = _first_lines(head, complete=len(head) < PROBE_BYTES)
    if len(lines) < 2:
        # The first session may be longer than the probe.
        head = given.content.peek(MAX_RECORD_BYTES)
        complete = len(head) < MAX_RECORD_BYTES
        lines = _first_lines(head, complete=complete)
        if len(lines) == 1 and not complete and _begins_object(head.split(b"\n", 1)[1]):
            return Evidence(_is_value(lines[0]), "its second line is larger than a record may be")
        if not lines and not complete and _begins_object(head) and given.name.endswith(_SUFFIXES):
            # Whether a document ends here or a line cannot be seen, but its name tells.
            return Evidence(
                True, "its first line is larger than a record may be, and its name says JSON lines"
            )
    if len(lines) < 2:
        return Evidence(False, "it is a single line")
    values = sum(_is_value(line) for line in lines)
    return Evidence(
        values >= 0.5 * len(lines), f"{values} of the first {len(lines)} lines are JSON values of their own"
    )


def read(given: Input) -> Iterator[Item]:
    return iter(read_lines(given.content, start=given.start))


def read_lines(content: PeekableStream, *, start: int) -> Range:
    """Reads lines, or a range of them that begins and ends with a whole line; `start` is the offset of its first byte."""
    return Range(_blocks(content, start))


def _blocks(content: PeekableStream, start: int) -> Generator[Item, None, bool]:
    for item in iter_blocks(content, offset=start, limit=MAX_RECORD_BYTES):
        if isinstance(item, Line):
            reason = f"a line of {item.size} bytes, more than {MAX_RECORD_BYTES >> 20} MiB"
            yield Fault(item.offset, item.data, item.size, "too_large", reason)
        else:
            yield line_block(*item)
    return True


def line_block(offset: int, data: bytes) -> Block:
    """Whole lines, those without blank ones."""
    text = np.frombuffer(data, np.uint8)
    ends = places_of(text, b"\n")
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    for index in np.flatnonzero(text[np.minimum(starts, len(data) - 1)] <= _SPACE).tolist():
        if not data[starts[index] : ends[index]].strip():
            starts[index] = -1
    filled = starts >= 0
    if not filled.all():
        starts, ends = starts[filled], ends[filled]
    return Block(data, starts, ends, offset + starts, line_record)


def line_record(offset: int, line: bytes, repaired: dict[str, int]) -> Record | Fault:
    """One line, which is not blank."""
    try:
        return Record(offset, orjson.loads(line), line)
    except orjson.JSONDecodeError:
        pass
    try:
        return Record(offset, parse_json(line, repaired), line)
    except RecordError as error:
        return Fault(offset, line, len(line), error.error_class, error.reason)


def _first_lines(head: bytes, *, complete: bool) -> list[bytes]:
    lines = head.split(b"\n", _MOST_LINES)
    if not complete or len(lines) > _MOST_LINES:
        lines.pop()
    return [line for line in lines if line.strip()]


def _begins_object(text: bytes) -> bool:
    return text[:64].lstrip()[:1] == b"{"


def _is_value(line: bytes) -> bool:
    if line.lstrip()[:1] not in (b"{", b"[", b'"'):
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        # Damaged, but a line of its own: within a document, a line that opens an object does not close it.
        return line.lstrip()[:1] == b"{" and line.rstrip()[-1:] == b"}" and len(line) > 2
    return True
