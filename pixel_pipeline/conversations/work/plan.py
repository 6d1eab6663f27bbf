"""Plans the tasks of a family: small objects are packed together, large ones cut into byte ranges.

A task is a plain value, named by a digest of its input and recipe. It makes the same files on any machine and at any time, so
the results of a killed run, or of an earlier state of the lake, are reused by name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import xxhash

from pixel_pipeline.conversations.containers.container import Opening
from pixel_pipeline.conversations.model.options import DEFAULT_OPTIONS
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.lake.memo import fingerprint

TASK_BYTES = 32 << 20
TASK_OBJECTS = 512
# One key in this many, chosen by hash, ends a task early: an added or removed object then changes only the tasks up to the next such key.
CUT_KEYS = 64

Place = tuple[str, str, int, int, str]
"""Key, ETag, start, end, digest of the options."""


@dataclass(frozen=True)
class Piece:
    """A raw object, or a range of its bytes that starts and ends at record boundaries.

    Attributes:
        opening: How to start reading in the middle; None for a whole object.
        start, end: The range; 0 and the object's size for a whole object.
    """

    source: SourceObject
    start: int
    end: int
    opening: Opening | None = None

    @classmethod
    def whole(cls, source: SourceObject) -> "Piece":
        """A whole object as one piece."""
        return cls(source, 0, source.size)

    @property
    def place(self) -> Place:
        """The bytes, and the options they are read with."""
        options = fingerprint(self.source.options) if self.source.options != DEFAULT_OPTIONS else ""
        return self.source.key, self.source.etag, self.start, self.end, options


@dataclass(frozen=True)
class Earlier:
    """Rows of a piece that an earlier task converted.

    Attributes:
        result: Key of the earlier task's result, without its suffix.
        files: Keys of that task's Parquet files.
        ledger: The piece's ledger row, as JSON.
    """

    result: str
    files: tuple[str, ...]
    ledger: bytes


@dataclass(frozen=True)
class Task:
    """Pieces to convert together, into files of their own.

    Attributes:
        name: Digest of the pieces, their destination and the recipe.
        table: Key of the canonical table.
        recipe: Version of the conversion recipe.
        earlier: By index of the piece, rows to reuse. Not part of the name, because the outcome is the same.
    """

    name: str
    table: str
    recipe: str
    pieces: tuple[Piece, ...]
    earlier: dict[int, Earlier] = field(default_factory=dict, compare=False)


def plan(
    objects: Sequence[SourceObject],
    *,
    table: str,
    recipe: str,
    cut: Callable[[SourceObject], list[Piece]],
) -> list[Task]:
    """Return tasks that together contain every object once.

    Args:
        objects: Sorted by key.
        cut: Splits an object of more than TASK_BYTES.
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
