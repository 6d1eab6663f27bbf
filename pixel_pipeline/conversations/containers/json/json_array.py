"""A JSON array: one record an element, positions are byte offsets; or one conversation whose turns are the elements.

It is cut into elements as it is read: its size does not matter, and a damaged element does not affect the others.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from pixel_pipeline.conversations.containers import streams
from pixel_pipeline.conversations.containers.container import Evidence, Input, Range
from pixel_pipeline.conversations.containers.json.elements import Tail, elements_of, parsed
from pixel_pipeline.conversations.containers.json.json_lines import line_record
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.model.records import (
    MAX_RECORD_BYTES,
    Block,
    Fault,
    Item,
    ObjectError,
    Record,
    peek,
)
from pixel_pipeline.lake.loader.json_elements import Element

NAME = "json_array"
POSITION_KIND = "byte"
IS_TEXT = True
_SAMPLED_TURNS = 8


def matches(given: Input) -> Evidence:
    """Whether the text begins like a JSON array; `[Intro]` does not."""
    head = given.head[:4096].lstrip()
    if head[:1] != b"[":
        return Evidence(False, "it does not begin with an array")
    found = head[1:].lstrip()[:1] in (b"{", b"[", b'"', b"]") or given.name.endswith((".json", ".jsonl"))
    return Evidence(found, f"it begins with an array{'' if found else ', but not of records'}")


def read(given: Input) -> Iterator[Item]:
    return iter(read_elements(given.content.chunks(), start=given.start, repaired=given.repaired))


def read_elements(
    chunks: Iterable[bytes], *, start: int, repaired: dict[str, int], opened: bool = False, cut: bool = False
) -> Range:
    """Read an array, or a range of one.

    Args:
        start: Offset of its first byte.
        opened: Whether the text begins with an element, because the array was opened before.
        cut: Whether the text should end after the comma of an element. The range does not end at a boundary if it ends
            elsewhere, or if the whole array is one conversation.
    """
    return Range(_records(chunks, start=start, repaired=repaired, opened=opened, cut=cut))


def _records(
    chunks: Iterable[bytes], *, start: int, repaired: dict[str, int], opened: bool, cut: bool
) -> Generator[Item, None, bool]:
    # With a bracket before it, a range is an array of its own.
    tail = Tail(chain([b"["], chunks) if opened else chunks, start=start - opened, closing=b"]")
    first, elements = peek(elements_of(tail, repaired=repaired, cut=cut), _SAMPLED_TURNS)
    if not opened and _is_one_conversation(first):
        yield from _one_conversation(_parsed(element, repaired) for element in elements)
        return not cut
    yield from _blocks(elements, repaired)
    return tail.added == cut


def _blocks(elements: Iterator[Element], repaired: dict[str, int]) -> Iterator[Item]:
    """Yield elements in blocks, those that are too large as faults."""
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
