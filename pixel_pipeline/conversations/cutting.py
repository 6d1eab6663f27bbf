"""Where a large text is cut, so that many can read it at once.

A cut has to lie between two records. Where it should lie is known, and what follows there tells; for JSON lines that is
certain. Whoever converts a range sees whether a record ends where it ends (`UnalignedRange`).
"""

from typing import BinaryIO

from pixel_pipeline.conversations import tasks
from pixel_pipeline.conversations.containers import json_lines
from pixel_pipeline.conversations.containers.opened import Opening
from pixel_pipeline.conversations.source import SourceObject
from pixel_pipeline.conversations.tasks import Piece

WINDOW_BYTES = 64 << 10
# A record larger than this is not cut around.
MOST_WINDOWS = 64


def cut(source: SourceObject, stream: BinaryIO, opening: Opening | None) -> list[Piece]:
    """Returns an object in ranges of about TASK_BYTES; in one piece where it has to be read whole.

    Args:
        stream: The object; read here and there.
        opening: As `containers.open_container` has it.
    """
    count = round(source.size / tasks.TASK_BYTES)
    if opening is None or count < 2:
        return [Piece.whole(source)]
    # The first piece begins with what stands before the records: a mark, a header, a bracket.
    edges = [opening.start]
    for number in range(1, count):
        edge = _edge(stream, opening, at=source.size * number // count)
        if edge is not None and edges[-1] < edge < source.size:
            edges.append(edge)
    return [
        Piece(source, start, end, opening)
        for start, end in zip(edges, [*edges[1:], source.size], strict=True)
    ]


def _edge(stream: BinaryIO, opening: Opening, *, at: int) -> int | None:
    """Offset of the first record that begins at an offset or behind it; None where none is found."""
    assert opening.container == json_lines.NAME
    stream.seek(at - 1)
    for number in range(MOST_WINDOWS):
        window = stream.read(WINDOW_BYTES)
        found = window.find(b"\n")
        if found >= 0:
            return at + number * WINDOW_BYTES + found
        if len(window) < WINDOW_BYTES:
            return None
    return None
