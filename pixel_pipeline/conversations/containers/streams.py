"""Byte streams that containers read: looked at before they are read, unpacked, transcoded, cut into lines."""

import codecs
from collections import Counter
from collections.abc import Callable, Iterator
import io
from typing import BinaryIO, NamedTuple

from pixel_pipeline.conversations.model.records import MAX_RECORD_BYTES, ObjectError
from pixel_pipeline.conversations.text.cleaning import decode_cp1252

CHUNK = 1 << 20
BLOCK = 2 << 20


class PeekableStream(io.RawIOBase):
    """A stream whose first bytes can be looked at before it is read.

    An ObjectError met while looking is kept, and raised when reading gets there: what stands before it is
    still converted.
    """

    def __init__(self, stream: BinaryIO | io.RawIOBase) -> None:
        self._stream = stream
        self._head = bytearray()
        self._position = 0
        self._ended = False
        self._fault: ObjectError | None = None

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        """Returns the first `size` bytes, fewer where the stream is shorter. Only before the first read."""
        while len(self._head) < size and not self._ended:
            try:
                chunk = self._stream.read(max(CHUNK, size - len(self._head)))
            except ObjectError as error:
                self._fault, chunk = error, b""
            self._head += chunk or b""
            self._ended = not chunk
        return bytes(memoryview(self._head)[:size])

    def raise_fault(self) -> None:
        """Raises the ObjectError met while looking, if any."""
        if self._fault is not None:
            raise self._fault

    def skip(self, size: int) -> None:
        """Drops the first bytes, which have been looked at."""
        del self._head[:size]

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes, at most `size` of them; as the stream gives them, once its head is read."""
        if size < 0:
            return self.readall()
        if self._position < len(self._head):
            part = bytes(memoryview(self._head)[self._position : self._position + size])
            self._position += len(part)
            if self._position >= len(self._head):
                self._head, self._position = bytearray(), 0
            return part
        if self._fault is not None:
            raise self._fault
        return b"" if self._ended else self._stream.read(size) or b""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def read_all(self, limit: int) -> bytes:
        """Returns the rest.

        Raises:
            ObjectError: `too_large`: more than `limit` bytes.
        """
        chunks, size = [], 0
        while chunk := self.read(CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise ObjectError(
                    "too_large", f"more than {limit >> 20} MiB in one piece that has to be read whole"
                )
        return b"".join(chunks)


class TranscodedStream(io.RawIOBase):
    """Another stream with its bytes converted piece by piece.

    Args:
        convert: Gets the next bytes, and whether they are the last (then possibly none).
    """

    def __init__(self, stream: PeekableStream, convert: Callable[[bytes, bool], bytes]) -> None:
        self._stream = stream
        self._convert = convert
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            chunk = self._stream.read(CHUNK) or b""
            self._ended = not chunk
            self._ready = self._convert(chunk, self._ended)
        part, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def to_utf8(encoding: str, repaired: Counter[str]) -> Callable[[bytes, bool], bytes]:
    """Returns a converter to UTF-8, for TranscodedStream; what cannot be decoded becomes U+FFFD, counted (`undecodable`)."""
    if encoding == "cp1252":
        return lambda chunk, last: decode_cp1252(chunk).encode()
    decoder = codecs.getincrementaldecoder(encoding)("replace")

    def convert(chunk: bytes, last: bool) -> bytes:
        text = decoder.decode(chunk, final=last)
        repaired["undecodable"] += text.count("\ufffd")
        return text.encode("utf-8", "replace")

    return convert


def returns_to_feeds(repaired: Counter[str]) -> Callable[[bytes, bool], bytes]:
    """Returns a converter for text whose lines end in carriage returns alone; offsets stay."""

    def convert(chunk: bytes, last: bool) -> bytes:
        repaired["line_ends"] += chunk.count(b"\r")
        return chunk.replace(b"\r", b"\n")

    return convert


class Line(NamedTuple):
    """One physical line.

    Attributes:
        offset: Offset of its first byte.
        data: Its bytes without the line feed; only the first of them where it is over the limit.
        size: Its size in bytes, without the line feed.
    """

    offset: int
    data: bytes
    size: int


def iter_blocks(
    stream: PeekableStream, *, offset: int = 0, limit: int = MAX_RECORD_BYTES
) -> Iterator[tuple[int, bytes] | Line]:
    """Cuts a stream at line feeds into blocks of whole lines, in bounded memory.

    Yields:
        Offset and bytes of a block, its last line feed included where it has one; of a line over `limit` bytes a Line with
        the first of them alone.
    """
    pieces: list[bytes] = []
    size = 0
    while chunk := stream.read(min(BLOCK, limit)):
        first = chunk.find(b"\n")
        if first >= 0 and size + first > limit:
            yield Line(offset, b"".join([*pieces, chunk[:first]])[: limit + 1], size + first)
            offset += size + first + 1
            pieces, size, chunk = [], 0, chunk[first + 1 :]
        cut = chunk.rfind(b"\n") + 1
        if cut:
            data = b"".join([*pieces, memoryview(chunk)[:cut]])
            yield offset, data
            offset += len(data)
            pieces, size = [], 0
        if size <= limit:
            pieces.append(chunk[cut:])
        size += len(chunk) - cut
    if size > limit:
        yield Line(offset, b"".join(pieces)[: limit + 1], size)
    elif size:
        yield offset, b"".join(pieces)


def iter_lines(stream: PeekableStream, *, offset: int = 0, limit: int = MAX_RECORD_BYTES) -> Iterator[Line]:
    """Cuts a stream into lines at line feeds, in bounded memory: of a line over `limit` bytes only the first
    are kept."""
    pieces: list[bytes] = []
    size = 0
    while chunk := stream.read(CHUNK):
        first, *others = chunk.split(b"\n")
        if size <= limit:
            pieces.append(first)
        size += len(first)
        if not others:
            continue
        yield Line(offset, b"".join(pieces)[: limit + 1], size)
        offset += size + 1
        for data in others[:-1]:
            yield Line(offset, data, len(data))
            offset += len(data) + 1
        pieces, size = [others[-1]], len(others[-1])
    if size:
        yield Line(offset, b"".join(pieces)[: limit + 1], size)
