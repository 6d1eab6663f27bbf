"""Byte streams for containers: peeking, transcoding, and cutting into lines."""

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
    """A stream whose first bytes can be inspected before it is read.

    An ObjectError met while peeking is raised once reading reaches it, so that everything before it is still converted.
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
        """Return the first `size` bytes, fewer if the stream is shorter. Only before the first read."""
        while len(self._head) < size and not self._ended:
            try:
                chunk = self._stream.read(max(CHUNK, size - len(self._head)))
            except ObjectError as error:
                self._fault, chunk = error, b""
            self._head += chunk or b""
            self._ended = not chunk
        return bytes(memoryview(self._head)[:size])

    def raise_fault(self) -> None:
        """Raise the ObjectError met while peeking, if any."""
        if self._fault is not None:
            raise self._fault

    def skip(self, size: int) -> None:
        """Drop bytes that were peeked at."""
        del self._head[:size]

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes: those peeked at first, then what one read of the stream returns."""
        if size < 0:
            return self.readall()
        if self._position < len(self._head):
            part = bytes(memoryview(self._head)[self._position : self._position + size])
            self._position += len(part)
            if self._position >= len(self._head):
                self._head, self._position = bytearray(), 0
            return part
        self.raise_fault()
        return b"" if self._ended else self._stream.read(size) or b""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def chunks(self) -> Iterator[bytes]:
        """Return the rest in chunks."""
        return iter(lambda: self.read(CHUNK), b"")

    def read_all(self, limit: int) -> bytes:
        """Return the rest.

        Raises:
            ObjectError: `too_large`: more than `limit` bytes.
        """
        chunks, size = [], 0
        for chunk in self.chunks():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                reason = f"more than {limit >> 20} MiB in one piece that has to be read whole"
                raise ObjectError("too_large", reason)
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
    """Return a converter to UTF-8 for TranscodedStream; undecodable bytes become U+FFFD, counted as `undecodable`."""
    if encoding == "cp1252":
        return lambda chunk, last: decode_cp1252(chunk).encode()
    decoder = codecs.getincrementaldecoder(encoding)("replace")

    def convert(chunk: bytes, last: bool) -> bytes:
        text = decoder.decode(chunk, final=last)
        repaired["undecodable"] += text.count("\ufffd")
        return text.encode("utf-8", "replace")

    return convert


def carriage_returns_to_line_feeds(repaired: Counter[str]) -> Callable[[bytes, bool], bytes]:
    """Return a converter for text whose lines end in carriage returns alone; offsets stay the same."""

    def convert(chunk: bytes, last: bool) -> bytes:
        repaired["line_ends"] += chunk.count(b"\r")
        return chunk.replace(b"\r", b"\n")

    return convert


class Line(NamedTuple):
    """One physical line.

    Attributes:
        offset: Offset of its first byte.
        data: Its bytes without the line feed, truncated if there are more than MAX_RECORD_BYTES.
        size: Its size in bytes, without the line feed.
    """

    offset: int
    data: bytes
    size: int


class LineReader:
    """Reads a text in blocks of whole lines, in bounded memory.

    An ObjectError of the content is raised once the whole lines before it were taken.

    Args:
        start: Offset of its first byte.

    Attributes:
        offset: Offset of the first byte that was not taken.
        ended: Whether the text was read to its end.
    """

    def __init__(self, content: PeekableStream, *, start: int) -> None:
        self.offset = start
        self.ended = False
        self._content = content
        self._ahead = b""
        self._fault: ObjectError | None = None

    @property
    def done(self) -> bool:
        """Whether all of the text was taken."""
        return self.ended and not self._ahead

    def block(self) -> bytes:
        """Return the next whole lines, without taking them; empty if the next line is longer than a block.

        The last line of the text counts as whole even without a line feed.
        """
        self._fill(BLOCK)
        block = self._ahead if self.ended else self._ahead[: self._ahead.rfind(b"\n") + 1]
        if not block and self._fault is not None:
            raise self._fault
        return block

    def take(self, size: int) -> None:
        """Take bytes of the block."""
        self._ahead = self._ahead[size:]
        self.offset += size

    def line(self) -> Line | None:
        """Take one line, of any length; None at the end of the text."""
        pieces: list[bytes] = []
        size = 0
        while (end := self._ahead.find(b"\n")) < 0:
            if size <= MAX_RECORD_BYTES:
                pieces.append(self._ahead)
            size += len(self._ahead)
            self._ahead = b""
            self._fill(1)
            if self._fault is not None and not self._ahead:
                raise self._fault
            if not self._ahead:
                break
        if end < 0 and not size:
            return None
        pieces.append(self._ahead[: max(end, 0)])
        size += max(end, 0)
        line = Line(self.offset, b"".join(pieces)[: MAX_RECORD_BYTES + 1], size)
        self._ahead = self._ahead[end + 1 :]
        self.offset += size + (end >= 0)
        return line

    def _fill(self, size: int) -> None:
        """Read until `size` bytes are held, or the text ends."""
        pieces, held = [self._ahead], len(self._ahead)
        while held < size and not self.ended and self._fault is None:
            try:
                chunk = self._content.read(BLOCK) or b""
            except ObjectError as error:
                self._fault = error
                break
            self.ended = not chunk
            pieces.append(chunk)
            held += len(chunk)
        if len(pieces) > 1:
            self._ahead = b"".join(pieces)
