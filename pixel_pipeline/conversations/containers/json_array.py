"""A JSON array: one record an element, positions are byte offsets; or one conversation whose turns the elements are.

Cut into its elements as it is read, so that neither its size nor a damaged element matters.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any

from pixel_pipeline.conversations.containers.json_streams import Tail, elements_of, parsed
from pixel_pipeline.conversations.containers.opened import Evidence, Input
from pixel_pipeline.conversations.containers.ranges import Range
from pixel_pipeline.conversations.containers.streams import CHUNK
from pixel_pipeline.conversations.formats import find_format
from pixel_pipeline.conversations.records import (
    MAX_RECORD_BYTES,
    Fault,
    Item,
    ObjectError,
    Record,
    looked_at,
)

NAME = "json_array"
POSITION_KIND = "byte"
IS_TEXT = True
_TURNS_LOOKED_AT = 8


def matches(given: Input) -> Evidence:
    """Whether the text opens as an array of JSON does; `[Intro]` does not."""
    head = given.head[:4096].lstrip()
    if head[:1] != b"[":
        return Evidence(False, "it does not begin with an array")
    found = head[1:].lstrip()[:1] in (b"{", b"[", b'"', b"]") or given.name.endswith((".json", ".jsonl"))
    return Evidence(found, f"it begins with an array {'' if found else 'of what is no '}record".rstrip())


def read(given: Input) -> Iterator[Item]:
    chunks = iter(lambda: given.content.read(CHUNK), b"")
    return iter(read_elements(chunks, start=given.start, repaired=given.repaired))


def read_elements(
    chunks: Iterable[bytes], *, start: int, repaired: dict[str, int], opened: bool = False, cut: bool = False
) -> Range:
    """Reads an array, or a range of one.

    Args:
        chunks: The text.
        start: Offset of its first byte.
        opened: The array was opened before: the text begins with an element.
        cut: The text is to end behind the comma of an element. It is no boundary where it ends anywhere else, nor where the
            whole array turns out to be one conversation.
    """
    return Range(_records(chunks, start=start, repaired=repaired, opened=opened, cut=cut))


def _records(
    chunks: Iterable[bytes], *, start: int, repaired: dict[str, int], opened: bool, cut: bool
) -> Generator[Item, None, bool]:
    # Lent a bracket, a range is an array of its own.
    tail = Tail(chain([b"["], chunks) if opened else chunks, start=start - opened, closing=b"]")
    elements = elements_of(tail, repaired=repaired, cut=cut)
    records: Iterator[Record | Fault] = (
        parsed(element, position=element.offset, repaired=repaired) for element in elements
    )
    if not opened:
        first, records = looked_at(records, _TURNS_LOOKED_AT)
        turns = [record.value for record in first if isinstance(record, Record)]
        if turns and find_format(turns) is not None:
            yield from _one_conversation(records)
            return not cut
    yield from records
    return tail.added == cut


def _one_conversation(records: Iterator[Record | Fault]) -> Iterator[Record | Fault]:
    turns: list[Any] = []
    size = 0
    for record in records:
        if isinstance(record, Fault):
            yield record
            continue
        turns.append(record.value)
        size += len(record.raw or b"")
        if size > MAX_RECORD_BYTES:
            raise ObjectError("too_large", f"one conversation of more than {MAX_RECORD_BYTES >> 20} MiB")
    yield Record(0, turns, None)
