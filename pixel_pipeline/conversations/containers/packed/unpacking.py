"""Decompression of gzip, zstd and bzip2 objects, recognised by their first bytes."""

from collections.abc import Callable
from functools import partial
import io
from typing import NamedTuple
import zlib

import pyarrow as pa

from pixel_pipeline.conversations.containers.random_access import WatchedStream
from pixel_pipeline.conversations.containers.streams import PeekableStream
from pixel_pipeline.conversations.model.records import ObjectError

_INPUT = 64 << 10
"""Size of reads of gzip data: small, because the data behind a member is copied once for each member."""
_BOMB_FLOOR = 64 << 20
_BOMB_RATIO = 200
"""Text compresses 3 to 20 times, zeros 1,000 times. A higher ratio is a bomb, once the output exceeds _BOMB_FLOOR."""


class Budget:
    """Limits the output of compressed bytes to the ratio of text.

    Attributes:
        packed: Number of compressed bytes so far.
        unpacked: Number of bytes they became.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.packed = 0
        self.unpacked = 0

    def spend(self, size: int) -> None:
        """Count output bytes.

        Raises:
            ObjectError: `<kind>_bomb`.
        """
        self.unpacked += size
        if self.unpacked > _BOMB_FLOOR and self.unpacked > _BOMB_RATIO * self.packed:
            reason = f"{self.packed} bytes unpack to more than {_BOMB_RATIO} times as many"
            raise ObjectError(f"{self._kind}_bomb", reason)


class GunzipStream(io.RawIOBase):
    """Content of a gzip object with one or several members, perhaps padded with zeros.

    Raises:
        ObjectError: `corrupt_gzip` or `gzip_bomb`, once everything unpacked before it was read.
    """

    def __init__(self, stream: PeekableStream) -> None:
        self._stream = stream
        self._inflater = zlib.decompressobj(wbits=31)
        self._input = b""
        self._budget = Budget("gzip")
        self._fault: ObjectError | None = None
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        # Fill the buffer, because one read for each of thousands of small members is slow.
        size = 0
        try:
            while size < len(buffer) and (part := self._part(len(buffer) - size)):
                buffer[size : size + len(part)] = part
                size += len(part)
        except ObjectError as error:
            if not size:
                raise
            self._fault = error
        return size

    def _part(self, limit: int) -> bytes:
        if self._fault is not None:
            raise self._fault
        while not self._ended:
            if self._inflater.eof:
                self._input = (self._inflater.unused_data or self._input).lstrip(b"\0")
                self._inflater = zlib.decompressobj(wbits=31)
                if not self._fill():
                    self._ended = True
                    break
            elif not self._fill():
                raise ObjectError(
                    "corrupt_gzip", f"the gzip data ends early, after {self._budget.unpacked} bytes unpacked"
                )
            try:
                part = self._inflater.decompress(self._input, limit)
            except zlib.error:
                where = f"after {self._budget.unpacked} bytes unpacked"
                raise ObjectError("corrupt_gzip", f"the gzip data is damaged {where}") from None
            self._input = self._inflater.unconsumed_tail
            if part:
                self._budget.spend(len(part))
                return part
        return b""

    def _fill(self) -> bool:
        """Whether there is input to unpack; reads more if none is left."""
        while not self._input:
            self._input = self._stream.read(_INPUT) or b""
            if not self._input:
                return False
            self._budget.packed += len(self._input)
        return True


class ArrowUnpackStream(io.RawIOBase):
    """Content of an object compressed by one of Arrow's codecs, in one or several frames.

    Args:
        codec: "zstd" or "bz2".

    Raises:
        ObjectError: `corrupt_<codec>` or `<codec>_bomb`, once reading gets there.
    """

    def __init__(self, stream: PeekableStream, codec: str) -> None:
        self._watched = WatchedStream(stream)
        self._codec = codec
        self._budget = Budget(codec)
        self._unpacked = pa.CompressedInputStream(pa.PythonFile(self._watched, mode="r"), codec)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            part = self._unpacked.read(len(buffer))
        except (OSError, pa.ArrowException):
            where = f"damaged, or ends early, after {self._budget.unpacked} bytes unpacked"
            raise self._watched.error or ObjectError(
                f"corrupt_{self._codec}", f"the {self._codec} data is {where}"
            ) from None
        self._budget.packed = self._watched.size
        self._budget.spend(len(part))
        buffer[: len(part)] = part
        return len(part)


class Packing(NamedTuple):
    """One kind of compression: its file suffix and how to decompress it."""

    suffix: str
    unpack: Callable[[PeekableStream], io.RawIOBase]


_PACKINGS = {
    b"\x1f\x8b\x08": Packing(".gz", GunzipStream),
    b"\x28\xb5\x2f\xfd": Packing(".zst", partial(ArrowUnpackStream, codec="zstd")),
    b"BZh": Packing(".bz2", partial(ArrowUnpackStream, codec="bz2")),
}


def packing_of(head: bytes) -> Packing | None:
    """Return how an object is compressed, or None."""
    for magic, packing in _PACKINGS.items():
        # A text may begin with `BZh`.
        if head.startswith(magic) and (magic != b"BZh" or head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")):
            return packing
    return None
