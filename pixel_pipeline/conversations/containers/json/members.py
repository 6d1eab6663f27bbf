"""The records in a JSON object: elements of a list of sessions, or members keyed by id, cut out as the text is read."""

from collections.abc import Iterable, Iterator
import re
from typing import Any

from pixel_pipeline.conversations.containers.json.elements import Tail, elements_of, parsed
from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import Fault, ObjectError, Record, RecordError
from pixel_pipeline.conversations.threads.sessions import SESSION_KEYS, Sessions

SAMPLED_RECORDS = 50
_TOKEN = re.compile(
    rb'"((?:[^"\\]|\\.)*+)"[ \t\r\n]*:[ \t\r\n]*(?=\[[ \t\r\n]*[\[{])|"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL
)


def object_records(
    chunks: Iterable[bytes], *, head: bytes, repaired: dict[str, int]
) -> Iterator[Record | Fault]:
    """Yield the sessions of an object that contains a list of them, or its members as records keyed by id.

    Args:
        head: First bytes of the text, in which the list has to begin.
    """
    field = _session_list(head)
    if field is not None:
        return _sessions(Tail(chunks), field=field, repaired=repaired)
    return _members(Tail(_as_array(chunks)), repaired)


def keyed_records(document: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the values of an object keyed by id, each with its key for the metadata."""
    for key, value in document.items():
        context = {"record_key": key}
        # A list of records instead of a record: `{"train": [...], "test": [...]}`.
        if (
            isinstance(value, list)
            and find_format(value) is None
            and any(map(find_format, value[:SAMPLED_RECORDS]))
        ):
            for item in value:
                yield item, context
        else:
            yield value, context


def _sessions(tail: Tail, *, field: str, repaired: dict[str, int]) -> Iterator[Record | Fault]:
    """Yield the elements of a list of sessions.

    Members before the list go to the metadata as `Sessions` describes, members after it to the metadata of the last session.
    """
    others: list[bytes] = []
    elements = elements_of(tail, repaired=repaired, field=field, beside=others)
    held: Record | Fault | None = None
    surroundings = Sessions.of([], {})
    before = 0
    damage: ObjectError | None = None
    try:
        for position, element in enumerate(elements):
            if held is not None:
                yield held
            else:
                surroundings, before = Sessions.of([], _mapping(others, repaired)), len(others)
            held = parsed(element, position=position, repaired=repaired)
            if isinstance(held, Record):
                held = held._replace(context=surroundings.context_of(position))
    except ObjectError as error:
        damage = error
    if isinstance(held, Record) and (after := _mapping(others[before:], repaired)):
        document = (held.context or {}).get("document", {})
        held = held._replace(context={"document": {**document, **after}})
    if held is not None:
        yield held
    if damage is not None:
        raise damage


def _mapping(members: list[bytes], repaired: dict[str, int]) -> dict[str, Any]:
    """Parse members of an object; a member that cannot be parsed becomes its size."""
    found: dict[str, Any] = {}
    for member in members:
        try:
            found.update(parse_json(b"{%b}" % member, repaired))
        except RecordError:
            key, _, value = member.partition(b":")
            found[key.strip(b' \t\r\n"').decode("utf-8", "replace")] = {"bytes": len(value)}
    return found


def _session_list(head: bytes) -> str | None:
    """Return the key under which an object holds a list of sessions, or None."""
    depth = 0
    for token in _TOKEN.finditer(head):
        if token[0] in b"{[":
            depth += 1
        elif token[0] in b"}]":
            depth -= 1
        elif depth == 1 and token[1] is not None and token[1].decode("ascii", "replace") in SESSION_KEYS:
            return token[1].decode()
    return None


def _members(tail: Tail, repaired: dict[str, int]) -> Iterator[Record | Fault]:
    """Yield the members of an object as records keyed by id."""
    position = 0
    for element in elements_of(tail, repaired=repaired, members=True):
        member = parsed(element, position=position, repaired=repaired, member=True)
        if isinstance(member, Fault):
            yield member
            position += 1
            continue
        for value, context in keyed_records(member.value):
            yield Record(position, value, None, context)
            position += 1


def _as_array(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Replace the braces of an object by brackets, so that it is cut into its members."""
    held = b""
    opened = False
    for chunk in chunks:
        data = held + chunk
        if not opened:
            data = data.lstrip()
            opened = bool(data)
            data = b"[" + data[1:] if data else data
        held = data[len(data.rstrip()) - 1 :] if data.strip() else data
        yield data[: len(data) - len(held)]
    yield b"]" + held[1:] if held[:1] == b"}" else held
