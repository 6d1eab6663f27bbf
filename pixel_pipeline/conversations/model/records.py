"""The values that pass between containers, formats and the converter."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from pixel_pipeline.conversations.model.columns import Flags, Ints

Message = tuple[str, str]
"""Role and content. A plain tuple, because one is made for every turn of the lake."""

MAX_RECORD_BYTES = 64 << 20
"""Larger records are quarantined: no session is this long, and a batch must stay far below Arrow's 2 GiB."""

PREFERENCE = "preference"
"""Tag of a conversation that is one side of a comparison: kept for alignment, never for supervised training."""

_Item = TypeVar("_Item")


class RecordError(Exception):
    """A record cannot become a conversation; it alone is quarantined.

    Args:
        error_class: Identifier to count by.
        reason: For a person; contains no conversation text.
    """

    def __init__(self, error_class: str, reason: str) -> None:
        super().__init__(f"{error_class}: {reason}")
        self.error_class = error_class
        self.reason = reason


class ObjectError(RecordError):
    """The rest of an object cannot be read; the records before it stay. It counts as one more quarantined record."""


class Record(NamedTuple):
    """One record as a container yields it.

    Attributes:
        position: Its place, in the container's unit.
        value: Parsed value: JSON types for JSON, CSV and Parquet; text for a text document.
        raw: Its bytes as stored in the source, or None if the container has no such bytes.
        context: Surroundings in the source that belong in its metadata.
    """

    position: int
    value: Any
    raw: bytes | None
    context: dict[str, Any] | None = None


class Fault(NamedTuple):
    """One record that a container could not read; reading continues after it.

    Attributes:
        position: Its place, in the container's unit.
        raw: Its bytes, possibly truncated.
        raw_size: Its full size in bytes.
        error_class: Identifier to count by.
        reason: For a person; contains no conversation text.
    """

    position: int
    raw: bytes | None
    raw_size: int
    error_class: str
    reason: str

    @classmethod
    def of(cls, position: int, raw: bytes, error: RecordError) -> "Fault":
        """The fault of a record whose bytes are all there."""
        return cls(position, raw, len(raw), error.error_class, error.reason)


class Table(NamedTuple):
    """How the rows of a CSV text are read."""

    header: tuple[str, ...]
    delimiter: str


class Block(NamedTuple):
    """Records that are not parsed yet, so that the converter can handle many at once.

    Attributes:
        data: Their bytes, one after the other.
        starts, ends: Bounds of each record in `data`.
        positions: Byte offset of each record in the source.
        read_one: Parses one record, given its position and bytes; counts its repairs.
        table: How to read them if they are CSV rows; None for JSON.
        irregular: Records that must be parsed one by one, if any.
    """

    data: bytes
    starts: Ints
    ends: Ints
    positions: Ints
    read_one: Callable[[int, bytes, dict[str, int]], Record | Fault]
    table: Table | None = None
    irregular: Flags | None = None

    def record(self, index: int, repaired: dict[str, int]) -> Record | Fault:
        """Parse one record."""
        data = self.data[self.starts[index] : self.ends[index]]
        return self.read_one(int(self.positions[index]), data, repaired)

    def records(self, repaired: dict[str, int]) -> Iterator[Record | Fault]:
        """Parse the records one by one."""
        for index in range(len(self.starts)):
            yield self.record(index, repaired)


Item = Record | Fault | Block
"""What a container yields."""


class Parsed(NamedTuple):
    """One record as a format understands it.

    Attributes:
        messages: Turns in order, with canonical roles.
        metadata: The rest of the record.
        reasoning: Chain of thought, separated from the answer.
        repaired: Changes made so far, by kind.
        tags: Tags for later stages, such as PREFERENCE.
    """

    messages: list[Message]
    metadata: dict[str, Any]
    reasoning: str | None = None
    repaired: Mapping[str, int] = MappingProxyType({})
    tags: tuple[str, ...] = ()


def count(counts: dict[str, int], kind: str, n: int = 1) -> None:
    """Add to the count of a kind; 0 adds no entry."""
    if n:
        counts[kind] = counts.get(kind, 0) + n


def peek(items: Iterator[_Item], n: int) -> tuple[list[_Item], Iterator[_Item]]:
    """Return the first `n` items, or those up to the first block, and an iterator over all of them.

    An ObjectError among the first items is raised once iteration reaches it.
    """
    first: list[_Item] = []
    try:
        for item in islice(items, n):
            first.append(item)
            if isinstance(item, Block):
                break
    except ObjectError as error:
        return first, _raising(first, error)
    return first, chain(first, items)


def _raising(items: list[_Item], error: ObjectError) -> Iterator[_Item]:
    yield from items
    raise error
