"""gzip, zstd and bzip2 data as their content. The first bytes identify the codec, whatever the name."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Literal
import zlib

import pyarrow as pa

from pixel_pipeline.errors import PixelError

BLOCK_BYTES = 512 * 1024
# Bytes given to a codec at a time. Small, because zlib copies the unused rest for every block and every member.
FEED_BYTES = 64 * 1024
MAGIC_BYTES = 10

Codec = Literal["gzip", "zstd", "bz2"]


class CompressedDataError(PixelError):
    """Compressed data are damaged or end early.

    Attributes:
        at_end: They end early.
        unpacked: Bytes of content that were unpacked before.
    """

    def __init__(self, codec: Codec, *, at_end: bool, unpacked: int, name: str) -> None:
        super().__init__(
            f"The {codec} data {f'of {name} ' if name else ''}{'end early' if at_end else 'are damaged'} after {unpacked:,} "
            "bytes of content.",
            hint="Compress and copy it into the lake again.",
        )
        self.at_end = at_end
        self.unpacked = unpacked


def codec_of(head: bytes) -> Codec | None:
    """Return the codec of data that begin with these bytes (`MAGIC_BYTES` suffice), or None if they are not compressed."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    # Text may begin with the three letters of bzip2.
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bz2"
    return None


def unpacker(codec: Codec, feed: Iterator[bytes], *, name: str = "") -> Callable[[int], bytes]:
    """Return a function that unpacks data, given in pieces of about FEED_BYTES, part by part.

    It returns at most the number of bytes it is called with, and none at the end, and raises CompressedDataError. Errors of the
    feed pass through unchanged.
    """
    return (_Gunzip(feed, name) if codec == "gzip" else _ArrowUnpacker(feed, codec, name)).read


def decompressed(chunks: Iterable[bytes | memoryview], *, uri: str) -> Iterator[bytes | memoryview]:
    """Iterate over the content of compressed data; other data pass unchanged.

    Data may have several members or frames. Memory use does not depend on the size of the content.

    Raises:
        CompressedDataError: damaged or truncated data, after the content before the damage.
    """
    source = iter(chunks)
    head: list[bytes | memoryview] = []
    while sum(map(len, head)) < MAGIC_BYTES and (chunk := next(source, None)) is not None:
        head.append(chunk)
    whole = chain(head, source)
    codec = codec_of(b"".join(bytes(chunk[:MAGIC_BYTES]) for chunk in head))
    if codec is None:
        return whole
    read = unpacker(codec, blocks(whole, size=FEED_BYTES), name=uri)
    return iter(lambda: read(BLOCK_BYTES), b"")


def blocks(chunks: Iterable[bytes | memoryview], *, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Cut chunks into pieces of at most `size` bytes, so that they fit into a processor's cache."""
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), size):
            yield bytes(view[start : start + size])


class _Gunzip:
    def __init__(self, feed: Iterator[bytes], name: str) -> None:
        self._feed = feed
        self._name = name
        self._data = b""
        self._inflater = zlib.decompressobj(wbits=31)
        self._unpacked = 0
        self._ended = False

    def read(self, limit: int) -> bytes:
        while not self._ended:
            if self._inflater.eof:
                # Zeros between and after members are padding, as for gzip itself.
                self._data = (self._inflater.unused_data or self._data).lstrip(b"\0")
                self._inflater = zlib.decompressobj(wbits=31)
                if not self._fill(padding=b"\0"):
                    self._ended = True
                    break
            elif not self._fill():
                raise self._error(at_end=True)
            try:
                part = self._inflater.decompress(self._data, limit)
            except zlib.error:
                raise self._error(at_end=False) from None
            self._data = self._inflater.unconsumed_tail
            if part:
                self._unpacked += len(part)
                return part
        return b""

    def _error(self, *, at_end: bool) -> CompressedDataError:
        return CompressedDataError("gzip", at_end=at_end, unpacked=self._unpacked, name=self._name)

    def _fill(self, *, padding: bytes = b"") -> bool:
        while not self._data:
            piece = next(self._feed, None)
            if piece is None:
                return False
            self._data = piece.lstrip(padding) if padding else piece
        return True


class _ArrowUnpacker:
    def __init__(self, feed: Iterator[bytes], codec: Codec, name: str) -> None:
        self._codec = codec
        self._name = name
        self._file = _FeedFile(feed)
        self._stream = pa.CompressedInputStream(pa.PythonFile(self._file, mode="r"), codec)
        self._unpacked = 0

    def read(self, limit: int) -> bytes:
        try:
            part: bytes = self._stream.read(limit)
        except (OSError, pa.ArrowException) as error:
            if self._file.error is not None:
                raise self._file.error from None
            at_end = "Truncated" in str(error)
            raise CompressedDataError(
                self._codec, at_end=at_end, unpacked=self._unpacked, name=self._name
            ) from None
        self._unpacked += len(part)
        return part


class _FeedFile:
    """A feed as Arrow reads files."""

    closed = False

    def __init__(self, feed: Iterator[bytes]) -> None:
        self._feed = feed
        self._left = b""
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int) -> bytes:
        try:
            data = self._left or next(self._feed, b"")
        except Exception as error:
            self.error = error
            raise
        self._left = data[size:]
        return data[:size]

    def close(self) -> None:
        pass
