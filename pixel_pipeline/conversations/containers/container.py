"""The interface of containers: what they get and what they return."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO, NamedTuple

from pixel_pipeline.conversations.containers.streams import PeekableStream
from pixel_pipeline.conversations.model.records import Item, ObjectError

PROBE_BYTES = 256 << 10


class Input(NamedTuple):
    """An object ready to be read by a container.

    Attributes:
        name: File name from the key, lower case, without suffixes of compression.
        content: Its bytes, unpacked; UTF-8 without byte order mark unless it is binary.
        original: The stored object if it can be read in place (seekable and not compressed), else None.
        start: Offset of the first byte of `content`: 3 after a UTF-8 byte order mark.
        repaired: Counts changes, for the ledger.
    """

    name: str
    content: PeekableStream
    original: BinaryIO | None
    start: int
    repaired: Counter[str]

    @property
    def head(self) -> bytes:
        """The first PROBE_BYTES of the content."""
        return self.content.peek(PROBE_BYTES)


class Evidence(NamedTuple):
    """Whether something holds, and why. Its truth value is `holds`.

    Attributes:
        holds: Whether it holds.
        why: For a person; contains no text of the object.
    """

    holds: bool
    why: str

    def __bool__(self) -> bool:
        return self.holds


class Container(NamedTuple):
    """How bytes become records.

    Attributes:
        name: Its name in the ledger.
        position_kind: Unit of its records' positions.
        is_text: Whether it reads text.
        matches: Whether an object's content is of this kind, and why.
        read: Yields the records; raises ObjectError if the rest cannot be read.
    """

    name: str
    position_kind: str
    is_text: bool
    matches: Callable[[Input], Evidence]
    read: Callable[[Input], Iterator[Item]]


class Opening(NamedTuple):
    """How to start reading a text at any of its records. The text is UTF-8 and not compressed.

    Attributes:
        container: Name of the container.
        start: Offset of the first byte: of the header, of the bracket.
        marked: Whether a byte order mark precedes it.
        delimiter: Delimiter of a CSV text.
        names: Columns of a CSV text, or keys of an array's first element.
        why, encoding_why: As in Opened.
    """

    container: str
    start: int
    marked: bool = False
    delimiter: str = ""
    names: tuple[str, ...] = ()
    why: str = ""
    encoding_why: str = ""


class Opened(NamedTuple):
    """An object whose container is known.

    Attributes:
        name: Name of the container, or "other".
        encoding: As in the ledger.
        position_kind: Unit of the records' positions.
        records: The records, to be consumed once.
        dropped: Why the object is not a dataset, None if it is one.
        members: For an archive, name, size in bytes and content of each member, to be consumed in order; `records` is empty then.
        opening: How to start at any record; None if the object has to be read from its first byte.
        why: Evidence for the container, or for the object not being a dataset.
        encoding_why: Evidence for the encoding.
        candidates: Evidence for and against each container, by name, if requested.
    """

    name: str
    encoding: str
    position_kind: str
    records: Iterator[Item]
    dropped: str | None = None
    members: "Iterator[tuple[str, int, Opened | ObjectError]] | None" = None
    opening: Opening | None = None
    why: str = ""
    encoding_why: str = ""
    candidates: dict[str, Evidence] | None = None


class Range:
    """The records in a byte range of an object, beginning at a record. To be iterated once.

    An object is cut before the meaning of its bytes is known, so a cut may fall within a record; the range before it detects that.

    Args:
        items: Yields the records and returns `ends_at_boundary`.

    Attributes:
        ends_at_boundary: Whether the range ends where a record ends. Known once all records were taken.
    """

    def __init__(self, items: Generator[Item, None, bool]) -> None:
        self._items = items
        self.ends_at_boundary = False

    def __iter__(self) -> Iterator[Item]:
        self.ends_at_boundary = yield from self._items
