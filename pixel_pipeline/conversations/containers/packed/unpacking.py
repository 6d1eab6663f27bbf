"""Decompression of gzip, zstd and bzip2 objects, limited to the ratio of text."""

from collections.abc import Iterator

from pixel_pipeline.conversations.containers.streams import PartStream, PeekableStream
from pixel_pipeline.conversations.model.records import ObjectError
from pixel_pipeline.lake.loader.compression import FEED_BYTES, Codec, CompressedDataError, unpacker

SUFFIXES: dict[Codec, str] = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2"}
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


class UnpackedStream(PartStream):
    """Content of a compressed object.

    Raises:
        ObjectError: `corrupt_<codec>` or `<codec>_bomb`, once everything unpacked before it was read.
    """

    def __init__(self, stream: PeekableStream, codec: Codec) -> None:
        self._codec = codec
        self._budget = Budget(codec)
        self._unpack = unpacker(codec, self._feed(stream))
        self._fault: ObjectError | None = None

    def read_part(self, limit: int) -> bytes:
        # As much as fits, because one read for each of thousands of small members is slow.
        parts, size = [], 0
        while size < limit and (part := self._part(limit - size)):
            parts.append(part)
            size += len(part)
        if not size and self._fault is not None:
            raise self._fault
        return b"".join(parts)

    def _part(self, limit: int) -> bytes:
        if self._fault is not None:
            return b""
        try:
            part = self._unpack(limit)
            self._budget.spend(len(part))
        except ObjectError as error:
            self._fault = error
        except CompressedDataError as error:
            damage = "ends early," if error.at_end else "is damaged"
            if self._codec != "gzip":
                # Only gzip data reliably show which it is.
                damage = "is damaged, or ends early,"
            reason = f"the {self._codec} data {damage} after {error.unpacked} bytes unpacked"
            self._fault = ObjectError(f"corrupt_{self._codec}", reason)
        return b"" if self._fault is not None else part

    def _feed(self, stream: PeekableStream) -> Iterator[bytes]:
        while data := stream.read(FEED_BYTES):
            self._budget.packed += len(data)
            yield data
