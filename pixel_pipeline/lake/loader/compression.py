"""Compressed objects as their content. What an object is, its first bytes say, not its name."""

from collections.abc import Iterable, Iterator
from itertools import chain
import zlib

import pyarrow as pa

from pixel_pipeline.errors import PixelError

BLOCK_BYTES = 512 * 1024
# What a codec is fed with: small, for the rest of it is copied after each block that comes out.
FEED_BYTES = 64 * 1024
GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAGIC_BYTES = 4


class CompressedDataError(PixelError):
    """Compressed data are damaged or end early."""


def blocks(chunks: Iterable[bytes | memoryview], *, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The same bytes in pieces of at most `size`, which a processor's cache can hold."""
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), size):
            yield bytes(view[start : start + size])


def is_compressed(head: bytes) -> bool:
    """Whether data that begin with these four bytes are gzip or zstd."""
    return head.startswith((GZIP_MAGIC, ZSTD_MAGIC))


def decompressed(chunks: Iterable[bytes | memoryview], *, uri: str) -> Iterator[bytes | memoryview]:
    """The content of gzip (several members) or zstd (several frames) data; other data pass as they are.

    Memory does not depend on how much comes out: it is unpacked as it is consumed.

    Raises:
        CompressedDataError: damaged or truncated data, after what could be unpacked before.
    """
    source = iter(chunks)
    head: list[bytes | memoryview] = []
    while sum(map(len, head)) < MAGIC_BYTES and (chunk := next(source, None)) is not None:
        head.append(chunk)
    magic = b"".join(bytes(chunk[:MAGIC_BYTES]) for chunk in head)
    whole = chain(head, source)
    if magic.startswith(GZIP_MAGIC):
        return _gunzipped(blocks(whole, size=FEED_BYTES), uri=uri)
    if magic.startswith(ZSTD_MAGIC):
        return _unzstd(blocks(whole, size=FEED_BYTES), uri=uri)
    return whole


def _gunzipped(feed: Iterator[bytes], *, uri: str) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    unpacked = 0
    for data in feed:
        while data:
            if inflater.eof:
                # Zeros between and after members are padding, as gzip itself has it.
                data = data.lstrip(b"\0")
                inflater = zlib.decompressobj(wbits=31) if data else inflater
                continue
            try:
                block = inflater.decompress(data, BLOCK_BYTES)
                while block:
                    yield block
                    unpacked += len(block)
                    block = inflater.decompress(inflater.unconsumed_tail, BLOCK_BYTES)
            except zlib.error:
                raise _damaged(uri, codec="gzip", unpacked=unpacked) from None
            data = inflater.unused_data
    if not inflater.eof:
        raise _damaged(uri, codec="gzip", unpacked=unpacked, how="end early")


def _unzstd(feed: Iterator[bytes], *, uri: str) -> Iterator[bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(_Feed(feed), mode="r"), "zstd")
    unpacked = 0
    while True:
        try:
            block = stream.read(BLOCK_BYTES)
        except OSError as error:
            how = "end early" if "Truncated" in str(error) else "are damaged"
            raise _damaged(uri, codec="zstd", unpacked=unpacked, how=how) from None
        if not block:
            return
        yield block
        unpacked += len(block)


class _Feed:
    """Just so much of a file as Arrow wants. Errors of the source reach the caller as they are."""

    closed = False

    def __init__(self, feed: Iterator[bytes]) -> None:
        self._feed = feed
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int) -> bytes:
        data = self._left or next(self._feed, b"")
        self._left = data[size:]
        return data[:size]

    def close(self) -> None:
        pass


def _damaged(uri: str, *, codec: str, unpacked: int, how: str = "are damaged") -> CompressedDataError:
    return CompressedDataError(
        f"The {codec} data of {uri} {how} after {unpacked:,} bytes of content.",
        hint="Compress and copy it into the lake again.",
    )
