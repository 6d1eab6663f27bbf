"""Texts that can be read from any of their records on: JSON lines, arrays, CSV."""

from collections import Counter
from typing import BinaryIO

from pixel_pipeline.conversations.containers.csv import table as csv_table
from pixel_pipeline.conversations.containers.json import array as json_array
from pixel_pipeline.conversations.containers.json import lines as json_lines
from pixel_pipeline.conversations.containers.json.streams import Tail, elements_of
from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.containers.opened import Input, Opened, Opening
from pixel_pipeline.conversations.containers.ranges import Range
from pixel_pipeline.conversations.containers.streams import CHUNK, PeekableStream
from pixel_pipeline.conversations.model.records import ObjectError, RecordError


def opening_of(container: str, given: Input) -> Opening | None:
    """Returns how a text opens; None where it has to be read from its first byte on."""
    opening = Opening(container, given.start, marked=given.start > 0)
    if container == json_lines.NAME:
        return opening
    if container == csv_table.NAME:
        delimiter, header = csv_table.read_header(given)
        return opening._replace(delimiter=delimiter, names=tuple(header)) if header else None
    if container == json_array.NAME and (keys := _first_keys(given)):
        return opening._replace(names=keys)
    return None


def open_range(
    opening: Opening, stream: BinaryIO, *, start: int, last: bool, repaired: Counter[str]
) -> tuple[Opened, Range]:
    """Opens a range of a text.

    Args:
        stream: The bytes of the range, which is to begin and end where records do.
        start: Offset of its first byte.
        last: It ends where the text ends.

    Returns:
        The range as an object of its own, and its records once more: these tell in the end whether a record ends there.
    """
    first = start == opening.start
    if opening.marked and first:
        repaired["byte_order_mark"] += 1
    content = PeekableStream(stream)
    if opening.container == csv_table.NAME:
        records = csv_table.read_rows(
            content,
            start=start,
            delimiter=opening.delimiter,
            repaired=repaired,
            header=None if first else [*opening.names],
        )
    elif opening.container == json_array.NAME:
        chunks = iter(lambda: content.read(CHUNK), b"")
        records = json_array.read_elements(
            chunks, start=start, repaired=repaired, opened=not first, cut=not last
        )
    else:
        records = json_lines.read_lines(content, start=start)
    opened = Opened(
        opening.container,
        "utf-8",
        "byte",
        iter(records),
        why=opening.why,
        encoding_why=opening.encoding_why,
    )
    return opened, records


def _first_keys(given: Input) -> tuple[str, ...]:
    """Keys of an array's first element, where it is an object."""
    elements = elements_of(Tail([given.head], start=given.start), repaired=Counter(), cut=True)
    try:
        element = next(elements, None)
        value = None if element is None else parse_json(element.data, {})
    except (RecordError, ObjectError):
        return ()
    return tuple(value) if isinstance(value, dict) else ()
