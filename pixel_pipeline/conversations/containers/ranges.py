"""Reading texts from any record on: JSON lines, arrays, CSV."""

from collections import Counter
from typing import BinaryIO

from pixel_pipeline.conversations.containers.container import Input, Opened, Opening, Range
from pixel_pipeline.conversations.containers.csv import csv_table
from pixel_pipeline.conversations.containers.json import json_array, json_lines
from pixel_pipeline.conversations.containers.json.elements import Tail, elements_of
from pixel_pipeline.conversations.containers.json.values import parse_json
from pixel_pipeline.conversations.containers.streams import PeekableStream
from pixel_pipeline.conversations.model.records import RecordError


def opening_of(container: str, given: Input) -> Opening | None:
    """Return how to start at any record of a text; None if it has to be read from its first byte."""
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
    """Open a range of a text.

    Args:
        stream: The bytes of the range, which should begin and end where records do.
        start: Offset of its first byte.
        last: Whether it ends where the text ends.

    Returns:
        The range as an object of its own, and its records again, to check at the end whether a record ends there.
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
        records = json_array.read_elements(
            content.chunks(), start=start, repaired=repaired, opened=not first, cut=not last
        )
    else:
        records = json_lines.read_lines(content, start=start)
    opened = Opened(
        opening.container, "utf-8", "byte", iter(records), why=opening.why, encoding_why=opening.encoding_why
    )
    return opened, records


def _first_keys(given: Input) -> tuple[str, ...]:
    """Keys of an array's first element, if it is an object."""
    elements = elements_of(Tail([given.head], start=given.start), repaired={}, cut=True)
    try:
        element = next(elements, None)
        value = None if element is None else parse_json(element.data, {})
    except RecordError:
        return ()
    return tuple(value) if isinstance(value, dict) else ()
