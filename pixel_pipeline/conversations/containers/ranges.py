"""Texts that can be read from any of their records on: JSON lines."""

from collections import Counter
from typing import BinaryIO

from pixel_pipeline.conversations.containers import json_lines
from pixel_pipeline.conversations.containers.opened import Input, Opened, Opening
from pixel_pipeline.conversations.containers.streams import PeekableStream


class UnalignedRange(Exception):
    """A range does not end where a record does: the text has to be read as a whole."""


def opening_of(container: str, given: Input) -> Opening | None:
    """Returns how a text opens; None where it has to be read from its first byte on."""
    if container == json_lines.NAME:
        return Opening(container, given.start, marked=given.start > 0)
    return None


def open_range(opening: Opening, stream: BinaryIO, *, start: int, repaired: Counter[str]) -> Opened:
    """Opens a range of a text.

    Args:
        stream: The bytes of the range, which ends where a record ends.
        start: Offset of its first byte, where a record begins.

    Raises:
        UnalignedRange: the last record is cut, when reading gets there.
    """
    if opening.marked and start == opening.start:
        repaired["byte_order_mark"] += 1
    given = Input("", PeekableStream(stream), None, start, repaired)
    return Opened(
        opening.container,
        "utf-8",
        json_lines.POSITION_KIND,
        json_lines.read(given),
        why=opening.why,
        encoding_why=opening.encoding_why,
    )
