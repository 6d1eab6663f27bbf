"""A JSON document that is an object: with a list of sessions, with records keyed by id, or a single record.

Positions are indices. Large objects are cut into their members as they are read, so that neither their size nor a damaged member
matters. Smaller objects are parsed whole.
"""

from collections.abc import Iterator
from itertools import chain, islice
import re
from typing import Any

from pixel_pipeline.conversations.containers.container import Evidence, Input
from pixel_pipeline.conversations.containers.json.members import (
    SAMPLED_RECORDS,
    keyed_records,
    object_records,
)
from pixel_pipeline.conversations.containers.json.recovery import DamagedError, end_of, most_searched
from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import Fault, ObjectError, Record, RecordError, count, peek
from pixel_pipeline.conversations.threads.sessions import sessions_of

NAME = "json_document"
POSITION_KIND = "record"
IS_TEXT = True
MAX_WHOLE_BYTES = 16 << 20
"""An object up to this size is parsed whole, in several times its size of memory."""
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_NEXT_OBJECT = re.compile(r"(?<=\n)\{")


def matches(given: Input) -> Evidence:
    """Whether the text begins like a JSON object; `{note}` does not."""
    head = given.head[:4096].lstrip()
    second = head[1:].lstrip()[:1]
    if head[:1] != b"{":
        return Evidence(False, "it does not begin with an object")
    found = second in (b'"', b"}")
    return Evidence(found, f"its first brace is {'' if found else 'not '}followed by a key")


def read(given: Input) -> Iterator[Record | Fault]:
    chunks = given.content.chunks()
    # Only possible before the first read.
    head = given.head
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size > MAX_WHOLE_BYTES:
            yield from object_records(chain(held, chunks), head=head, repaired=given.repaired)
            return
    yield from _whole_object(given, head, b"".join(held))


def records_of(document: Any) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """Split a document into records, each with the surroundings that belong in its metadata."""
    try:
        sessions = sessions_of(document)
    except RecordError:
        # It is one record; the converter reports the error.
        sessions = None
    if find_format(document) is not None:
        yield document, None
    elif isinstance(document, list):
        for value in document:
            yield value, None
    elif sessions is not None:
        for index, value in enumerate(sessions.values):
            yield value, sessions.context_of(index)
    elif _is_keyed_by_id(document):
        yield from keyed_records(document)
    else:
        yield document, None


def _whole_object(given: Input, head: bytes, data: bytes) -> Iterator[Record | Fault]:
    try:
        document = parse_json(data, given.repaired)
    except RecordError as error:
        yield from _damaged_object(given, head, data, ObjectError(error.error_class, error.reason))
        return
    for position, (value, context) in enumerate(records_of(document)):
        yield Record(position, value, None, context)


def _damaged_object(given: Input, head: bytes, data: bytes, error: ObjectError) -> Iterator[Record | Fault]:
    """Recover the whole objects of concatenated ones, or the whole members of a list of sessions or an object keyed by id."""
    found = _concatenated(data, given.repaired)
    if not found:
        first, records = peek(object_records([data], head=head, repaired=given.repaired), SAMPLED_RECORDS)
        if any(isinstance(record, Record) and find_format(record.value) for record in first):
            yield from records
            return
        found = _concatenated(data, given.repaired, first_may_be_damaged=True)
    if not found:
        raise error
    count(given.repaired, "concatenated_documents")
    yield from found


def _is_keyed_by_id(document: Any) -> bool:
    """Whether an object's values are records: all are objects or lists, and there are several, or one in a known format."""
    if not isinstance(document, dict) or not document:
        return False
    if not all(isinstance(value, dict | list) for value in document.values()):
        return False
    first = [value for value, _ in islice(keyed_records(document), SAMPLED_RECORDS)]
    return any(find_format(value) for value in first) or (
        len(document) > 1 and all(isinstance(value, dict) for value in first)
    )


def _concatenated(
    data: bytes, repaired: dict[str, int], *, first_may_be_damaged: bool = False
) -> list[Record | Fault]:
    """Return the objects of a text of concatenated JSON objects, damaged ones as Faults; none if it is any other text.

    Args:
        first_may_be_damaged: By default, the first object must be whole to show what the text is.
    """
    text = data.decode("utf-8", "surrogateescape")
    found: list[Record | Fault] = []
    good = position = searched = 0
    while (start := _NOT_SPACE.search(text, position)) is not None:
        try:
            end = end_of(text, start.start())
        except DamagedError as error:
            searched += error.searched
            following = _NEXT_OBJECT.search(text, start.start() + 1)
            if not (good or first_may_be_damaged) or searched > most_searched(text):
                following = None
            end = len(text) if following is None else following.start()
        raw = text[start.start() : end].encode("utf-8", "surrogateescape")
        position, index = end, len(found)
        try:
            value = parse_json(raw, repaired)
            if not isinstance(value, dict):
                raise RecordError("bad_json", "not an object, as the others are")
            found.append(Record(index, value, None))
            good += 1 + (find_format(value) is not None)
        except RecordError as error:
            found.append(Fault.of(index, raw, error))
    return found if good > 1 and len(found) > 1 else []
