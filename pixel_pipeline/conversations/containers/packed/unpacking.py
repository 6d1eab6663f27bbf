"""Packed objects as what they hold: gzip, zstd and bzip2, told by their first bytes."""

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
"""Read at a time of gzip data: what follows a member is copied once for each member."""
_BOMB_FLOOR = 64 << 20
_BOMB_RATIO = 200
"""Text packs 3 to 20 times, zeros 1,000 times. More than this, once _BOMB_FLOOR came out, is a bomb."""


class Budget:
    """What may come out of packed bytes. `gzip_bomb`, `zip_bomb` … once it is far more than text can be."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.packed = 0
        self.unpacked = 0

    def spend(self, size: int) -> None:
        """Counts bytes that came out.

        Raises:
            ObjectError: `<kind>_bomb`.
        """
        self.unpacked += size
        if self.unpacked > _BOMB_FLOOR and self.unpacked > _BOMB_RATIO * self.packed:
            reason = f"{self.packed} bytes unpack to more than {_BOMB_RATIO} times as many"
            raise ObjectError(f"{self._kind}_bomb", reason)


class GunzipStream(io.RawIOBase):
    """What a gzip object holds; members follow each other, zeros may pad the end.

    Raises:
        ObjectError: `corrupt_gzip` or `gzip_bomb`, when reading gets there; what was unpacked before is
        handed out first.
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
        # As much as there is room for: of thousands of small members each would cost a buffer of its own.
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
        """Whether there is input to unpack, reading on where it is used up; zeros between members are
        padding."""
        while not self._input:
            self._input = self._stream.read(_INPUT) or b""
            if not self._input:
                return False
            self._budget.packed += len(self._input)
        return True


class ArrowUnpackStream(io.RawIOBase):
    """What an object packed by one of Arrow's codecs holds; frames follow each other.

    Args:
        codec: "zstd" or "bz2".

    Raises:
        ObjectError: `corrupt_<codec>` or `<codec>_bomb`, when reading gets there.
    """

    def __init__(self, stream: PeekableStream, codec: str) -> None:
        self._watched = WatchedStream(stream)
        self._codec = codec
        self._budget = Budget(codec)
        self._unpacked = pa.CompressedInputStream(pa.PythonFile(self._counted(), mode="r"), codec)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            part = self._unpacked.read(len(buffer))
        except (OSError, pa.ArrowException):
            if self._watched.error is not None:
                raise self._watched.error from None
            where = f"damaged, or ends early, after {self._budget.unpacked} bytes unpacked"
            raise ObjectError(f"corrupt_{self._codec}", f"the {self._codec} data is {where}") from None
        self._budget.spend(len(part))
        buffer[: len(part)] = part
        return len(part)

    def _counted(self) -> io.RawIOBase:
        watched, budget = self._watched, self._budget

        class Counted(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def read(self, size: int = -1) -> bytes:
                data = watched.read(size)
                budget.packed += len(data)
                return data

        return Counted()


class Packing(NamedTuple):
    """One way to pack an object: its suffix, and how it is unpacked."""

    suffix: str
    unpack: Callable[[PeekableStream], io.RawIOBase]


_PACKINGS = {
    b"\x1f\x8b\x08": Packing(".gz", GunzipStream),
    b"\x28\xb5\x2f\xfd": Packing(".zst", partial(ArrowUnpackStream, codec="zstd")),
    b"BZh": Packing(".bz2", partial(ArrowUnpackStream, codec="bz2")),
}


def packing_of(head: bytes) -> Packing | None:
    """Returns how an object is packed; None where it is not."""
    for magic, packing in _PACKINGS.items():
        # Text may begin with the three letters of bzip2.
        if head.startswith(magic) and (magic != b"BZh" or head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")):
            return packing
    return None
