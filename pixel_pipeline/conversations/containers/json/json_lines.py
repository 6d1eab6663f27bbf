"""JSON lines: one JSON value a line, positions are byte offsets. A bad line is quarantined alone, and reading continues."""

from collections.abc import Generator, Iterator

import numpy as np
import orjson

from pixel_pipeline.conversations.containers.container import PROBE_BYTES, Evidence, Input, Range
from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.containers.streams import LineReader, PeekableStream
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
_SAMPLED_LINES = 50
_SPACE = 0x20
_SUFFIXES = (".jsonl", ".ndjson")


def matches(given: Input) -> Evidence:
    """Whether there are several lines, and at least half of the first ones are JSON values.

    In a document printed over many lines hardly any line is one; a document on one line has no second line.
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
            # The content does not show whether this is a document or a line, but the name does.
            reason = "its first line is larger than a record may be, and its name says JSON lines"
            return Evidence(True, reason)
    if len(lines) < 2:
        return Evidence(False, "it is a single line")
    values = sum(map(_is_value, lines))
    found = values >= 0.5 * len(lines)
    return Evidence(found, f"{values} of the first {len(lines)} lines are JSON values of their own")


def read(given: Input) -> Iterator[Item]:
    return iter(read_lines(given.content, start=given.start))


def read_lines(content: PeekableStream, *, start: int) -> Range:
    """Read lines, or a range of whole lines; `start` is the offset of the first byte."""
    return Range(_blocks(LineReader(content, start=start)))


def _blocks(reader: LineReader) -> Generator[Item, None, bool]:
    while not reader.done:
        offset = reader.offset
        if data := reader.block():
            # A last line without a line feed is a block of its own: the first block is the sample of `join_messages`.
            data = data[: data.rfind(b"\n") + 1] or data
            reader.take(len(data))
            yield _block(offset, data)
        elif (line := reader.line()) is not None:
            if line.size <= MAX_RECORD_BYTES:
                yield _block(offset, line.data)
            else:
                reason = f"a line of {line.size} bytes, more than {MAX_RECORD_BYTES >> 20} MiB"
                yield Fault(offset, line.data, line.size, "too_large", reason)
    return True


def _block(offset: int, data: bytes) -> Block:
    """Make a block of whole lines, leaving out blank ones."""
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
    """Parse one line that is not blank."""
    try:
        return Record(offset, parse_json(line, repaired), line)
    except RecordError as error:
        return Fault.of(offset, line, error)


def _first_lines(head: bytes, *, complete: bool) -> list[bytes]:
    lines = head.split(b"\n", _SAMPLED_LINES)
    if not complete or len(lines) > _SAMPLED_LINES:
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
