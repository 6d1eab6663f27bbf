"""Records cut out of a JSON text as it is read: an array's elements, an object's members.

Neither the size of the text nor a damaged element matters: memory is bounded by the largest element, and each is parsed
alone.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
import re
from typing import Any

from pixel_pipeline.conversations.containers.json.recovery import resynchronised
from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import (
    MAX_RECORD_BYTES,
    Fault,
    ObjectError,
    Record,
    RecordError,
)
from pixel_pipeline.conversations.threads.sessions import SESSION_KEYS, sessions_beside
from pixel_pipeline.lake.loader.json_elements import Element, JsonStructureError, json_elements

LOOKED_AT = 50
WINDOW_BYTES = 16 << 20
"""Looked at behind damage at a time."""
_TOKEN = re.compile(
    rb'"((?:[^"\\]|\\.)*+)"[ \t\r\n]*:[ \t\r\n]*(?=\[[ \t\r\n]*[\[{])|"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL
)
_LAST_BYTES = 4096
_TRAILING_COMMA = re.compile(rb",[ \t\r\n]*(\][ \t\r\n}]*)\Z")


class Tail:
    """Chunks of a text, remembering the last bytes.

    Args:
        start: Offset of the first byte.
        closing: What the text should end with; it is added where it does not, so that the last element is handed out.

    Attributes:
        end: Offset behind the bytes so far.
        last: The last of them.
        added: Whether the closing was added.
    """

    def __init__(self, chunks: Iterable[bytes], *, start: int = 0, closing: bytes = b"") -> None:
        self._chunks = chunks
        self._closing = closing
        self.start = self.end = start
        self.last = b""
        self.added = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.end += len(chunk)
            self.last = (self.last + chunk)[-_LAST_BYTES:]
            yield chunk
        if not self.last.rstrip().endswith(self._closing):
            self.added = True
            yield self._closing

    def ends_with_comma(self, offset: int) -> bool:
        """Whether what stands at an offset is the end of an array, and a comma before it."""
        if self.added:
            return offset == self.end and self.last.rstrip().endswith(b",")
        comma = _TRAILING_COMMA.search(self.last)
        return comma is not None and offset == self.end - len(comma[1])


def elements_of(
    tail: Tail,
    *,
    repaired: dict[str, int],
    field: str | None = None,
    cut: bool = False,
    beside: list[bytes] | None = None,
    members: bool = False,
) -> Generator[Element, None, None]:
    """Hands out the elements of an array, or of an object's member.

    Args:
        cut: The text is to end behind the comma of an element, not with the array.
        beside: Gets the object's other members.
        members: The elements are an object's members, key and all.

    Raises:
        ObjectError: The rest is no array, and holds no whole element. A comma behind the last element is forgiven.
    """
    count = 0
    chunks, offset = iter(tail), tail.start
    while True:
        elements = json_elements(
            chunks,
            field=field,
            max_element_bytes=MAX_RECORD_BYTES,
            name="the document",
            offset=offset,
            beside=beside,
            keep_rest=not cut,
        )
        try:
            for element in elements:
                yield element
                count += 1
        except JsonStructureError as error:
            comma = tail.ends_with_comma(error.offset)
            if cut and tail.added and comma:
                return
            # Only where the text is to end: a comma too many in its middle is damage.
            if not tail.added and comma:
                repaired["trailing_commas"] = repaired.get("trailing_commas", 0) + 1
                return
            if error.rest is None:
                raise ObjectError("bad_json", error.message) from None
            window, rest = _window(error.rest)
            if rest is None and tail.added:
                window = window.removesuffix(b"]")
            found = resynchronised(
                window, offset=error.rest_offset, members=members, goes_on=rest is not None
            )
            yield from found.elements
            count += len(found.elements)
            # Where all that is left is whole, the text may have ended in between.
            ended = error.at_end and not found.damaged
            if not found.elements or (ended and rest is None):
                raise ObjectError("bad_json", error.message) from None
            repaired["resynchronised"] = repaired.get("resynchronised", 0) + 1
            if rest is None:
                return
            # What the window cut off goes on, as an array of its own.
            chunks, offset, field = chain([b"[", found.left], rest), found.left_offset - 1, None
        else:
            break
    if tail.added:
        raise ObjectError("bad_json", f"the text ends within the array, after {count} elements")


def _window(rest: Iterable[bytes]) -> tuple[bytes, Iterator[bytes] | None]:
    """The first WINDOW_BYTES of the rest of a text, and what follows; None where nothing does."""
    parts, size = [], 0
    chunks = iter(rest)
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > WINDOW_BYTES:
            text = b"".join(parts)
            return text[:WINDOW_BYTES], chain([text[WINDOW_BYTES:]], chunks)
    return b"".join(parts), None


def parsed(
    element: Element, *, position: int, repaired: dict[str, int], member: bool = False
) -> Record | Fault:
    """Parses an element; `member`: of an object, key and all."""
    if element.size > MAX_RECORD_BYTES:
        reason = f"a record of {element.size} bytes, more than {MAX_RECORD_BYTES >> 20} MiB"
        return Fault(position, None, element.size, "too_large", reason)
    raw = element.data.rstrip()
    try:
        return Record(position, parse_json(b"{%b}" % raw if member else raw, repaired), raw)
    except RecordError as error:
        return Fault(position, raw, len(raw), error.error_class, error.reason)


def object_records(
    chunks: Iterable[bytes], *, head: bytes, repaired: dict[str, int]
) -> Iterator[Record | Fault]:
    """Hands out the sessions of an object that is a list of them with something beside, or its members as records keyed by id.

    Args:
        head: The first bytes of the text: the list has to open within them.
    """
    field = _session_list(head)
    if field is not None:
        return _sessions(Tail(chunks), field=field, repaired=repaired)
    return _members(Tail(_as_array(chunks)), repaired)


def _sessions(tail: Tail, *, field: str, repaired: dict[str, int]) -> Iterator[Record | Fault]:
    """Hands out the elements of a list of sessions. What stands before it goes to the metadata as `bundles.Sessions` says; what
    stands behind it, to that of the last session."""
    beside: list[bytes] = []
    elements = elements_of(tail, repaired=repaired, field=field, beside=beside)
    held: Record | Fault | None = None
    around = sessions_beside([], {})
    before = 0
    damage: ObjectError | None = None
    try:
        for position, element in enumerate(elements):
            if held is not None:
                yield held
            else:
                around, before = sessions_beside([], _mapping(beside, repaired)), len(beside)
            held = parsed(element, position=position, repaired=repaired)
            if isinstance(held, Record):
                held = held._replace(context=around.context_of(position))
    except ObjectError as error:
        damage = error
    if isinstance(held, Record) and (after := _mapping(beside[before:], repaired)):
        document = (held.context or {}).get("document", {})
        held = held._replace(context={"document": {**document, **after}})
    if held is not None:
        yield held
    if damage is not None:
        raise damage


def _mapping(members: list[bytes], repaired: dict[str, int]) -> dict[str, Any]:
    """The members of an object; those that cannot be read by their size."""
    found: dict[str, Any] = {}
    for member in members:
        try:
            found.update(parse_json(b"{%b}" % member, repaired))
        except RecordError:
            key, _, value = member.partition(b":")
            found[key.strip(b' \t\r\n"').decode("utf-8", "replace")] = {"bytes": len(value)}
    return found


def _session_list(head: bytes) -> str | None:
    """Returns the key under which an object holds a list of sessions."""
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
    """Hands out the members of an object as records keyed by id."""
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
    """Gives an object the brackets of an array, so that it is cut into its members."""
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


def keyed_records(document: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Hands out the values of an object keyed by id, each with its key for the metadata."""
    for key, value in document.items():
        context = {"record_key": key}
        # Not a record, but a list of them: `{"train": [...], "test": [...]}`.
        if (
            isinstance(value, list)
            and find_format(value) is None
            and any(map(find_format, value[:LOOKED_AT]))
        ):
            for item in value:
                yield item, context
        else:
            yield value, context
