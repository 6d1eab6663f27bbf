"""A JSON document: an array of records, an object with a list of sessions, an object keyed by id, or a single
record.

Positions are indices. Records have no bytes of their own; quarantine gets them written back as JSON.
"""

from collections.abc import Iterator
from typing import Any

from pixel_pipeline.conversations.bundles import sessions_of
from pixel_pipeline.conversations.containers.json_values import parse_json, parse_json_text
from pixel_pipeline.conversations.containers.opened import Input
from pixel_pipeline.conversations.formats import find_format
from pixel_pipeline.conversations.records import Fault, ObjectError, Record, RecordError

NAME = "json_document"
POSITION_KIND = "record"
IS_TEXT = True
MAX_DOCUMENT_BYTES = 1 << 30
"""A document is parsed whole, in several times its size of memory."""
_LOOKED_AT = 50


def matches(given: Input) -> bool:
    """Whether the text opens as an object or array of JSON does; `[Intro]` and `{note}` do not."""
    head = given.head[:4096].lstrip()
    first, second = head[:1], head[1:].lstrip()[:1]
    if first == b"{":
        return second in (b'"', b"}")
    return first == b"[" and (second in (b"{", b"[", b'"', b"]") or given.name.endswith((".json", ".jsonl")))


def read(given: Input) -> Iterator[Record | Fault]:
    data = given.content.read_all(MAX_DOCUMENT_BYTES)
    broken = False
    try:
        document = parse_json(data, given.repaired)
    except RecordError as error:
        if error.error_class != "bad_encoding":
            raise ObjectError(error.error_class, error.reason) from None
        # Each bad byte becomes a lone surrogate, so that only the records that hold one are lost.
        broken = True
        try:
            document = parse_json_text(data.decode("utf-8", "surrogateescape"), given.repaired)
        except RecordError:
            raise ObjectError("undecodable", error.reason) from None
    for position, (value, context) in enumerate(_records(document)):
        if broken and _has_bad_bytes(value):
            yield Fault(position, None, 0, "bad_encoding", "the record holds bytes that are not valid UTF-8")
        else:
            yield Record(position, value, None, context)


def _records(document: Any) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """Takes a document apart into records, each with what its metadata gets from around it."""
    if find_format(document) is not None:
        yield document, None
    elif isinstance(document, list):
        for value in document:
            yield value, None
    elif (sessions := sessions_of(document)) is not None:
        for index, value in enumerate(sessions.values):
            yield value, sessions.context_of(index)
    elif _is_keyed_by_id(document):
        for key, value in document.items():
            yield value, {"record_key": key}
    else:
        yield document, None


def _is_keyed_by_id(document: Any) -> bool:
    """Whether an object's values are records: all are objects or lists, and several, or one in a known
    format."""
    if not isinstance(document, dict) or not document:
        return False
    if not all(isinstance(value, dict | list) for value in document.values()):
        return False
    first = list(document.values())[:_LOOKED_AT]
    return any(find_format(value) for value in first) or (
        len(document) > 1 and all(isinstance(v, dict) for v in first)
    )


def _has_bad_bytes(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, str) and any("\ud800" <= letter <= "\udfff" for letter in item):
            return True
    return False
