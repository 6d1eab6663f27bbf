"""Objects that libraries read with random access."""

from collections.abc import Iterator
from contextlib import contextmanager
import io
import tarfile
import tempfile
from typing import Any, BinaryIO, cast
import zipfile
import zlib

import pyarrow as pa

from pixel_pipeline.conversations.containers.streams import PeekableStream
from pixel_pipeline.conversations.model.records import ObjectError

MAX_SPOOLED_BYTES = 4 << 30
_SPOOL_IN_MEMORY = 64 << 20
_MOST_AT_ONCE = 16 << 20
DAMAGE = (
    OSError, EOFError, ValueError, OverflowError, MemoryError, NotImplementedError, RuntimeError, zlib.error,
    zipfile.BadZipFile, tarfile.TarError, pa.ArrowException,
)  # fmt: skip
"""Errors that libraries raise for damaged objects."""


class WatchedStream(io.RawIOBase):
    """Remembers an error of the stream itself: libraries also report damage as OSError, and only damage is the object's fault.

    Attributes:
        error: The error.
        last: The last bytes that were read.
    """

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

    def fault(self, error: BaseException, error_class: str, reason: str) -> Exception:
        """Return the ObjectError for a library's error, or the error of the stream itself if that was the cause."""
        return self.error or ObjectError(error_class, f"{reason} ({type(error).__name__})")

    def _pieces(self, size: int) -> Iterator[bytes]:
        """Read what exists: a buffer of the size that a damaged header asks for might exceed all memory."""
        while size and (piece := self._stream.read(min(size, _MOST_AT_ONCE))):
            size -= len(piece)
            yield piece


def spooled(content: PeekableStream) -> BinaryIO:
    """Copy an object to a temporary file that is deleted when it is closed.

    Raises:
        ObjectError: `too_large`: more than MAX_SPOOLED_BYTES.
    """
    file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY)  # noqa: SIM115 - the reader closes it
    size = 0
    for chunk in content.chunks():
        size += len(chunk)
        if size > MAX_SPOOLED_BYTES:
            reason = f"more than {MAX_SPOOLED_BYTES >> 20} MiB to unpack before reading"
            raise ObjectError("too_large", reason)
        file.write(chunk)
    file.seek(0)
    return cast(BinaryIO, file)


@contextmanager
def seekable(content: PeekableStream, original: BinaryIO | None) -> Iterator[BinaryIO]:
    """Return an object for random access: the original if there is one, else a `spooled` copy."""
    if original is not None:
        yield original
        return
    with spooled(content) as file:
        yield file
