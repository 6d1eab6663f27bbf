"""Objects compressed as a whole, by gzip, zstd or bzip2, as their content."""

from collections.abc import Iterator
import io
from typing import NamedTuple

from pixel_pipeline.conversations.containers.streams import PeekableStream
from pixel_pipeline.conversations.model.records import ObjectError
from pixel_pipeline.lake.loader.compression import (
    FEED_BYTES,
    Codec,
    CompressedDataError,
    codec_of,
    unpacker,
)

_BOMB_FLOOR = 64 << 20
_BOMB_RATIO = 200
"""Text packs 3 to 20 times, zeros 1,000 times. A higher ratio, once _BOMB_FLOOR came out, is a bomb."""
_SUFFIXES: dict[Codec, str] = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2"}


class Budget:
    """How much content packed bytes may have. `gzip_bomb`, `zip_bomb` … once it is far more than text can be."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.packed = 0
        self.unpacked = 0

    def spend(self, size: int) -> None:
        """Count bytes of content.

        Raises:
            ObjectError: `<kind>_bomb`.
        """
        self.unpacked += size
        if self.unpacked > _BOMB_FLOOR and self.unpacked > _BOMB_RATIO * self.packed:
            reason = f"{self.packed} bytes unpack to more than {_BOMB_RATIO} times as many"
            raise ObjectError(f"{self._kind}_bomb", reason)


class UnpackStream(io.RawIOBase):
    """The content of a compressed object.

    Raises:
        ObjectError: `corrupt_<codec>` or `<codec>_bomb`, when reading reaches the damage; the content before it is
        returned first.
    """

    def __init__(self, stream: PeekableStream, codec: Codec) -> None:
        self._stream = stream
        self._codec = codec
        self._budget = Budget(codec)
        self._unpack = unpacker(codec, self._feed())
        self._error: ObjectError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        # Filled from several parts: each of thousands of small members would need a buffer of its own.
        size = 0
        try:
            while size < len(buffer) and (part := self._part(len(buffer) - size)):
                buffer[size : size + len(part)] = part
                size += len(part)
        except ObjectError as error:
            if not size:
                raise
            self._error = error
        return size

    def _part(self, limit: int) -> bytes:
        if self._error is not None:
            raise self._error
        try:
            part = self._unpack(limit)
        except CompressedDataError as error:
            if self._codec == "gzip":
                damage = "ends early," if error.at_end else "is damaged"
            else:
                damage = "is damaged, or ends early,"
            reason = f"the {self._codec} data {damage} after {error.unpacked} bytes unpacked"
            raise ObjectError(f"corrupt_{self._codec}", reason) from None
        self._budget.spend(len(part))
        return part

    def _feed(self) -> Iterator[bytes]:
        while data := self._stream.read(FEED_BYTES):
            self._budget.packed += len(data)
            yield data


class Packing(NamedTuple):
    """One way to compress an object: its suffix and codec."""

    suffix: str
    codec: Codec

    def unpack(self, stream: PeekableStream) -> UnpackStream:
        return UnpackStream(stream, self.codec)


def packing_of(head: bytes) -> Packing | None:
    """Return how an object that begins with these bytes is compressed; None if it is not."""
    codec = codec_of(head)
    return None if codec is None else Packing(_SUFFIXES[codec], codec)
