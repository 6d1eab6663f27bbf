"""Objects that libraries read here and there: watched for errors of the stream itself, copied where they cannot seek."""

from collections.abc import Iterator
from contextlib import contextmanager
import io
import tempfile
from typing import Any, BinaryIO, cast

from pixel_pipeline.conversations.containers.streams import CHUNK, PeekableStream
from pixel_pipeline.conversations.model.records import ObjectError

MAX_SPOOLED_BYTES = 4 << 30
_SPOOL_IN_MEMORY = 64 << 20
_MOST_AT_ONCE = 16 << 20


class WatchedStream(io.RawIOBase):
    """Remembers an error of the stream itself: libraries report damage as OSError too, and only damage is the object's
    fault. `last` holds the last bytes that were read."""

    def __init__(self, stream: Any) -> None:
        self._stream: BinaryIO = stream
        self.error: Exception | None = None
        self.last = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        try:
            if size is None or size <= _MOST_AT_ONCE:
                data = self._stream.read(-1 if size is None else size)
            else:
                data = b"".join(self._pieces(size))
        except Exception as error:
            self.error = error
            raise
        self.last = data[-512:] or self.last
        return data

    def _pieces(self, size: int) -> Iterator[bytes]:
        """Reads as much as there is: a buffer of what a damaged header asks for might be more than all memory."""
        while size and (piece := self._stream.read(min(size, _MOST_AT_ONCE))):
            size -= len(piece)
            yield piece


def spooled(content: PeekableStream) -> BinaryIO:
    """Copies an object to a temporary file that goes with it.

    Raises:
        ObjectError: `too_large`: more than MAX_SPOOLED_BYTES.
    """
    file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY)  # noqa: SIM115 - it lives on with the reader
    size = 0
    while chunk := content.read(CHUNK):
        size += len(chunk)
        if size > MAX_SPOOLED_BYTES:
            raise ObjectError(
                "too_large", f"more than {MAX_SPOOLED_BYTES >> 20} MiB to unpack before reading"
            )
        file.write(chunk)
    file.seek(0)
    return cast(BinaryIO, file)


@contextmanager
def seekable(content: PeekableStream, original: BinaryIO | None) -> Iterator[BinaryIO]:
    """Gives an object that is read here and there: as it came where it can be, otherwise `spooled`."""
    if original is not None:
        yield original
        return
    with spooled(content) as file:
        yield file
