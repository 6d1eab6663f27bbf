"""The elements of an array, or of an array within an object, cut out of a JSON text as it is read.

Memory is bounded by the largest element, and a damaged element does not affect the others.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
import re

from pixel_pipeline.conversations.containers.json.recovery import resynchronised
from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.model.records import (
    MAX_RECORD_BYTES,
    Fault,
    ObjectError,
    Record,
    RecordError,
    count,
)
from pixel_pipeline.lake.loader.json_elements import Element, JsonStructureError, json_elements

WINDOW_BYTES = 16 << 20
"""Size of the text searched at a time for whole elements behind damage."""
_LAST_BYTES = 4096
_TRAILING_COMMA = re.compile(rb",[ \t\r\n]*(\][ \t\r\n}]*)\Z")


class Tail:
    """Chunks of a text, remembering the last bytes.

    Args:
        start: Offset of the first byte.
        closing: Expected end of the text; it is added if missing, so that the last element is yielded.

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
        """Whether the end of the array is at an offset, with a comma before it."""
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
    """Yield the elements of an array.

    Args:
        repaired: Counts `trailing_commas` and `resynchronised`.
        field: Key of the array, if the text is an object.
        cut: Whether the text should end after the comma of an element instead of with the array.
        beside: Receives the object's other members.
        members: Whether the elements are an object's members, each with its key.

    Raises:
        ObjectError: The rest is not an array and contains no whole element. A comma after the last element is accepted.
    """
    n = 0
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
                n += 1
        except JsonStructureError as error:
            comma = tail.ends_with_comma(error.offset)
            if cut and tail.added and comma:
                return
            # Only at the end of the text: an extra comma in the middle is damage.
            if not tail.added and comma:
                count(repaired, "trailing_commas")
                return
            if error.rest is None:
                raise ObjectError("bad_json", error.message) from None
            window, rest = _window(error.rest)
            if rest is None and tail.added:
                window = window.removesuffix(b"]")
            found = resynchronised(
                window, offset=error.rest_offset, members=members, more_follows=rest is not None
            )
            yield from found.elements
            n += len(found.elements)
            # If everything left is whole, the text may have ended between two elements.
            ended = error.at_end and not found.damaged
            if not found.elements or (ended and rest is None):
                raise ObjectError("bad_json", error.message) from None
            count(repaired, "resynchronised")
            if rest is None:
                return
            # The text behind the window is read as an array of its own.
            chunks, offset, field = chain([b"[", found.left], rest), found.left_offset - 1, None
        else:
            break
    if tail.added:
        raise ObjectError("bad_json", f"the text ends within the array, after {n} elements")


def _window(rest: Iterable[bytes]) -> tuple[bytes, Iterator[bytes] | None]:
    """Split the rest of a text into its first WINDOW_BYTES and what follows, None if nothing follows."""
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
    """Parse an element, or a member of an object with its key."""
    if element.size > MAX_RECORD_BYTES:
        reason = f"a record of {element.size} bytes, more than {MAX_RECORD_BYTES >> 20} MiB"
        return Fault(position, None, element.size, "too_large", reason)
    raw = element.data.rstrip()
    try:
        return Record(position, parse_json(b"{%b}" % raw if member else raw, repaired), raw)
    except RecordError as error:
        return Fault.of(position, raw, error)
