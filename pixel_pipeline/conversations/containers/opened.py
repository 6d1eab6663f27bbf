"""What containers get and give."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from pixel_pipeline.conversations.containers.streams import PeekableStream
from pixel_pipeline.conversations.model.records import Block, Fault, ObjectError, Record

PROBE_BYTES = 256 << 10


class Input(NamedTuple):
    """An object ready to be read by a container.

    Attributes:
        name: File name from the key, lower case, without `.gz`.
        content: Its bytes, unpacked; UTF-8 without byte order mark unless it is binary.
        original: The object as it came where it can be read in place (seekable and not packed); None
        otherwise.
        start: Offset of the first byte of `content`: 3 after a UTF-8 byte order mark.
        repaired: Counts of changes, shared with the ledger.
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
    """Whether something is so, and why; true where it is.

    Attributes:
        holds: Whether it is so.
        why: For a person, about the object at hand; without text of it.
    """

    holds: bool
    why: str

    def __bool__(self) -> bool:
        return self.holds


class Container(NamedTuple):
    """How bytes become records.

    Attributes:
        name: As it stands in the ledger.
        position_kind: Unit of its records' positions.
        is_text: Whether it reads text.
        matches: Whether an object's content is of this kind, and why.
        read: Hands out the records; raises ObjectError where the rest cannot be read.
    """

    name: str
    position_kind: str
    is_text: bool
    matches: Callable[[Input], Evidence]
    read: Callable[[Input], Iterator[Record | Fault | Block]]


class Opening(NamedTuple):
    """What a reader has to know of a text to begin at one of its records. UTF-8, not packed.

    Attributes:
        container: Name of the container.
        start: Offset of the first byte: of the header, of the bracket.
        marked: A byte order mark stands before it.
        delimiter: Of a CSV text.
        names: Of a CSV text those of its columns, of an array the keys of its first element.
        why, encoding_why: As of Opened.
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
        dropped: Why the object is no dataset, None where it is one.
        members: Of an archive, name, size in bytes and content of each member, to be consumed in order; then there are no
            records beside.
        opening: How to begin at any record; None where the object has to be read from its first byte on.
        why: What speaks for the container, or for its being no dataset.
        encoding_why: What speaks for the encoding.
        candidates: What speaks for and against each container, by name, where that was asked for.
    """

    name: str
    encoding: str
    position_kind: str
    records: Iterator[Record | Fault | Block]
    dropped: str | None = None
    members: "Iterator[tuple[str, int, Opened | ObjectError]] | None" = None
    opening: Opening | None = None
    why: str = ""
    encoding_why: str = ""
    candidates: dict[str, Evidence] | None = None
