"""A JSON array: one record an element, positions are byte offsets; or one conversation whose turns the elements are.

Cut into its elements as it is read, so that neither its size nor a damaged element matters.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from pixel_pipeline.conversations.containers import streams
from pixel_pipeline.conversations.containers.json.lines import line_record
from pixel_pipeline.conversations.containers.json.streams import Tail, elements_of, parsed
from pixel_pipeline.conversations.containers.opened import Evidence, Input
from pixel_pipeline.conversations.containers.ranges import Range
from pixel_pipeline.conversations.containers.streams import CHUNK
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import (
    MAX_RECORD_BYTES,
    Block,
    Fault,
    Item,
    ObjectError,
    Record,
    looked_at,
)
from pixel_pipeline.lake.loader.json_elements import Element

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
    return Evidence(found, f"it begins with an array{'' if found else ' of what is no record'}")


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
    first, elements = looked_at(elements_of(tail, repaired=repaired, cut=cut), _TURNS_LOOKED_AT)
    if not opened and _is_one_conversation(first):
        yield from _one_conversation(_parsed(element, repaired) for element in elements)
        return not cut
    yield from _blocks(elements, repaired)
    return tail.added == cut


def _blocks(elements: Iterator[Element], repaired: dict[str, int]) -> Iterator[Item]:
    """Elements in blocks; one that is too large alone."""
    held: list[Element] = []
    size = 0
    try:
        for element in elements:
            if element.size > MAX_RECORD_BYTES:
                yield from _block(held)
                yield _parsed(element, repaired)
                held, size = [], 0
                continue
            held.append(element)
            size += element.size
            if size >= streams.BLOCK:
                yield from _block(held)
                held, size = [], 0
    except ObjectError:
        yield from _block(held)
        raise
    yield from _block(held)


def _block(elements: list[Element]) -> Iterator[Block]:
    if not elements:
        return
    texts = [element.data.rstrip() for element in elements]
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    ends = np.cumsum(sizes + 1) - 1
    positions = np.array([element.offset for element in elements])
    yield Block(b"\n".join(texts), ends - sizes, ends, positions, line_record)


def _parsed(element: Element, repaired: dict[str, int]) -> Record | Fault:
    return parsed(element, position=element.offset, repaired=repaired)


def _is_one_conversation(first: list[Element]) -> bool:
    records = [_parsed(element, {}) for element in first]
    turns = [record.value for record in records if isinstance(record, Record)]
    return bool(turns) and find_format(turns) is not None


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
