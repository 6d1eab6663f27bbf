"""What passes between containers, formats and the converter."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from pixel_pipeline.conversations.model.columns import Flags, Ints

# (role, content). A plain tuple: one is made for every turn of the lake.
Message = tuple[str, str]

MAX_RECORD_BYTES = 64 << 20
"""A record larger than this (64 MiB) is quarantined: no session is, and a batch must stay far below Arrow's 2
GiB."""


PREFERENCE = "preference"
"""Tag of a conversation that is one side of a comparison: kept for alignment, never for supervised training."""


class Record(NamedTuple):
    """One record as a container hands it out.

    Attributes:
        position: Where it stands, in the container's unit.
        value: Parsed value: JSON types for JSON, CSV and Parquet; text for a text document.
        raw: Its bytes as they stand in the source, or None where the container has no such bytes.
        context: What surrounds it in the source and belongs in its metadata.
    """

    position: int
    value: Any
    raw: bytes | None
    context: dict[str, Any] | None = None


class Fault(NamedTuple):
    """One record that a container could not read; reading goes on after it.

    Attributes:
        position: Where it stands, in the container's unit.
        raw: Its bytes, possibly only the first of them.
        raw_size: Its full size in bytes.
        error_class: Identifier to count by.
        reason: For a person; without conversation text.
    """

    position: int
    raw: bytes | None
    raw_size: int
    error_class: str
    reason: str


class Table(NamedTuple):
    """What rows of text are rows of."""

    header: tuple[str, ...]
    delimiter: str


class Block(NamedTuple):
    """Records not looked at yet: the converter may have a short way for many at once.

    Attributes:
        data: Their bytes, one after the other.
        starts, ends: Where each lies in `data`.
        positions: Where each stands in the source, as a byte offset.
        read_one: Reads one alone, given its position and bytes; counts its repairs.
        table: Theirs, where they are rows; else they are JSON.
        odd: Those that have to be read alone; None for none.
    """

    data: bytes
    starts: Ints
    ends: Ints
    positions: Ints
    read_one: Callable[[int, bytes, dict[str, int]], Record | Fault]
    table: Table | None = None
    odd: Flags | None = None

    def record(self, index: int, repaired: dict[str, int]) -> Record | Fault:
        """One of the records."""
        data = self.data[self.starts[index] : self.ends[index]]
        return self.read_one(int(self.positions[index]), data, repaired)

    def records(self, repaired: dict[str, int]) -> Iterator[Record | Fault]:
        """The records one by one."""
        for index in range(len(self.starts)):
            yield self.record(index, repaired)


class Parsed(NamedTuple):
    """One record as a format understands it.

    Attributes:
        messages: Turns in order, roles canonical.
        metadata: What the record had besides its turns.
        reasoning: Chain of thought, kept apart.
        repaired: Changes made on the way, by kind.
        tags: What later stages have to know, such as PREFERENCE.
    """

    messages: list[Message]
    metadata: dict[str, Any]
    reasoning: str | None = None
    repaired: Mapping[str, int] = MappingProxyType({})
    tags: tuple[str, ...] = ()


class RecordError(Exception):
    """A record cannot become a conversation; it is quarantined alone.

    Args:
        error_class: Identifier to count by.
        reason: For a person; without conversation text.
    """

    def __init__(self, error_class: str, reason: str) -> None:
        super().__init__(f"{error_class}: {reason}")
        self.error_class = error_class
        self.reason = reason


class ObjectError(RecordError):
    """The rest of an object cannot be read; what was read before stays. It counts as one more record,
    quarantined."""


Item = Record | Fault | Block
"""What a container hands out."""


SomeItem = TypeVar("SomeItem")


def looked_at(records: Iterator[SomeItem], n: int) -> tuple[list[SomeItem], Iterator[SomeItem]]:
    """Returns the first `n` items, or those up to the first block, and all of them.

    An ObjectError among the first is raised when reading gets there.
    """
    first: list[SomeItem] = []
    try:
        for record in islice(records, n):
            first.append(record)
            if isinstance(record, Block):
                break
    except ObjectError as error:
        return first, _ending(first, error)
    return first, chain(first, records)


def _ending(records: list[SomeItem], error: ObjectError) -> Iterator[SomeItem]:
    yield from records
    raise error
