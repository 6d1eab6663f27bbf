"""What there is to do: raw objects packed together by bytes, large ones cut in ranges; each task named by its content.

A task is a plain value. Whoever runs it, wherever and however often, makes the same files of it, so that what was done
before a run was killed, or for an earlier state of the lake, is not done again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import xxhash

from pixel_pipeline.conversations.containers.opened import Opening
from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.quarantine.reading import Wanted
from pixel_pipeline.lake.memo import fingerprint

TASK_BYTES = 32 << 20
TASK_OBJECTS = 512
# One key in so many ends a task, whatever its size: where objects come or go, tasks further on stay as they are.
CUT_KEYS = 64

Place = tuple[str, str, int, int, str]
"""Key, ETag, start, end, digest of the options."""


@dataclass(frozen=True)
class Piece:
    """A raw object, or a range of its bytes that begins and ends where records do.

    Attributes:
        opening: How to begin in the middle; None for a whole object.
        start, end: The range; 0 and the object's size for a whole object.
    """

    source: SourceObject
    start: int
    end: int
    opening: Opening | None = None

    @classmethod
    def whole(cls, source: SourceObject) -> "Piece":
        """An object in one piece."""
        return cls(source, 0, source.size)

    @property
    def place(self) -> Place:
        """Which bytes these are, and how they are read."""
        options = fingerprint(self.source.options) if self.source.options != DEFAULT_OPTIONS else ""
        return self.source.key, self.source.etag, self.start, self.end, options


@dataclass(frozen=True)
class Earlier:
    """Where the rows of a piece lie that was converted before, by the same recipe.

    Attributes:
        result: Key of the earlier task's result, without its suffix.
        files: Keys of its Parquet files.
        ledger: The piece's row of it, as JSON.
    """

    result: str
    files: tuple[str, ...]
    ledger: bytes


@dataclass(frozen=True)
class Task:
    """Pieces to be converted together into files of their own.

    Attributes:
        name: Digest of the pieces, where their rows belong, and the recipe.
        table: Key of the canonical table.
        recipe: Digest of the code.
        earlier: What need not be converted again. Has no part in the name, for the outcome is the same.
        replay: Of what lies in the quarantine of earlier pieces, what is to be converted again all the same.
    """

    name: str
    table: str
    recipe: str
    pieces: tuple[Piece, ...]
    earlier: dict[int, Earlier] = field(default_factory=dict, compare=False)
    replay: Wanted | None = field(default=None, compare=False)


def plan(
    objects: Sequence[SourceObject],
    *,
    table: str,
    recipe: str,
    cut: Callable[[SourceObject], list[Piece]],
) -> list[Task]:
    """Tasks that together hold every object once.

    Args:
        objects: Sorted by key.
        cut: Takes an object of more than TASK_BYTES apart.
    """
    return [
        Task(_name(pieces, table=table, recipe=recipe), table, recipe, tuple(pieces))
        for pieces in _packed(objects, cut)
    ]


def _packed(
    objects: Sequence[SourceObject], cut: Callable[[SourceObject], list[Piece]]
) -> Iterator[list[Piece]]:
    pieces: list[Piece] = []
    size = 0
    for source in objects:
        if source.size > TASK_BYTES:
            if pieces:
                yield pieces
            pieces, size = [], 0
            yield from ([piece] for piece in cut(source))
            continue
        if pieces and size + source.size > TASK_BYTES:
            yield pieces
            pieces, size = [], 0
        pieces.append(Piece.whole(source))
        size += source.size
        if len(pieces) == TASK_OBJECTS or xxhash.xxh3_64_intdigest(source.key.encode()) % CUT_KEYS == 0:
            yield pieces
            pieces, size = [], 0
    if pieces:
        yield pieces


def _name(pieces: Sequence[Piece], *, table: str, recipe: str) -> str:
    belongs = [(piece.source.category, piece.source.family, piece.source.dataset) for piece in pieces]
    places = [(*piece.place, piece.opening) for piece in pieces]
    return fingerprint(recipe, table, belongs, places)
