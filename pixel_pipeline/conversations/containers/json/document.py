"""A JSON document that is an object: a list of sessions with something beside, records keyed by id, or a single record.

Positions are indices. Large objects are cut into their members as they are read, so that neither their size nor a damaged
member matters. Other objects are read whole.
"""

from collections.abc import Iterator
from itertools import chain, islice
import re
from typing import Any

from pixel_pipeline.conversations.containers.json.recovery import DamagedError, end_of, most_searched
from pixel_pipeline.conversations.containers.json.streams import LOOKED_AT, keyed_records, object_records
from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.containers.opened import Evidence, Input
from pixel_pipeline.conversations.containers.streams import CHUNK
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import Fault, ObjectError, Record, RecordError, looked_at
from pixel_pipeline.conversations.threads.sessions import sessions_of

NAME = "json_document"
POSITION_KIND = "record"
IS_TEXT = True
MAX_WHOLE_BYTES = 16 << 20
"""An object up to this size is read whole, in several times its size of memory."""
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_NEXT_OBJECT = re.compile(r"(?<=\n)\{")


def matches(given: Input) -> Evidence:
    """Whether the text opens as an object of JSON does; `{note}` does not."""
    head = given.head[:4096].lstrip()
    second = head[1:].lstrip()[:1]
    if head[:1] != b"{":
        return Evidence(False, "it does not begin with an object")
    return Evidence(second in (b'"', b"}"), f"behind its first brace comes {'a' if second else 'no'} key")


def read(given: Input) -> Iterator[Record | Fault]:
    chunks = iter(lambda: given.content.read(CHUNK), b"")
    # Only before the first read.
    head = given.head
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size > MAX_WHOLE_BYTES:
            yield from object_records(chain(held, chunks), head=head, repaired=given.repaired)
            return
    yield from _object(given, head, b"".join(held))


def records_of(document: Any) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """Takes a document apart into records, each with what its metadata gets from around it."""
    try:
        sessions = sessions_of(document)
    except RecordError:
        # It is one record, and the converter says what is wrong with it.
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


def _object(given: Input, head: bytes, data: bytes) -> Iterator[Record | Fault]:
    try:
        document = parse_json(data, given.repaired)
        records = enumerate(records_of(document))
    except RecordError as error:
        yield from _damaged_object(given, head, data, ObjectError(error.error_class, error.reason))
        return
    for position, (value, context) in records:
        yield Record(position, value, None, context)


def _damaged_object(given: Input, head: bytes, data: bytes, error: ObjectError) -> Iterator[Record | Fault]:
    """Saves what can be: of objects one after another each, of a list of sessions or an object keyed by id the members that
    are whole."""
    found = _concatenated(data, given.repaired)
    if not found:
        first, records = looked_at(object_records([data], head=head, repaired=given.repaired), LOOKED_AT)
        if any(isinstance(record, Record) and find_format(record.value) for record in first):
            yield from records
            return
        found = _concatenated(data, given.repaired, first_too=True)
    if not found:
        raise error
    given.repaired["concatenated_documents"] += 1
    yield from found


def _is_keyed_by_id(document: Any) -> bool:
    """Whether an object's values are records: all are objects or lists, and several, or one in a known
    format."""
    if not isinstance(document, dict) or not document:
        return False
    if not all(isinstance(value, dict | list) for value in document.values()):
        return False
    first = [value for value, _ in islice(keyed_records(document), LOOKED_AT)]
    return any(find_format(value) for value in first) or (
        len(document) > 1 and all(isinstance(v, dict) for v in first)
    )


def _concatenated(data: bytes, repaired: dict[str, int], *, first_too: bool = False) -> list[Record | Fault]:
    """Returns the objects of a text that is one JSON object after another, each that is damaged as a Fault; none where it is
    anything else.

    Args:
        first_too: The first object may be damaged. Usually it tells what the text is.
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
            if not (good or first_too) or searched > most_searched(text):
                following = None
            end = len(text) if following is None else following.start()
        raw = text[start.start() : end].encode("utf-8", "surrogateescape")
        position, place = end, len(found)
        try:
            value = parse_json(raw, repaired)
            if not isinstance(value, dict):
                raise RecordError("bad_json", "not an object, as the others are")
            found.append(Record(place, value, None))
            good += 1 + (find_format(value) is not None)
        except RecordError as error:
            found.append(Fault(place, raw, len(raw), error.error_class, error.reason))
    return found if good > 1 and len(found) > 1 else []
