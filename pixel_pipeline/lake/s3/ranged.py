"""Objects as seekable streams."""

import io
from typing import TYPE_CHECKING, Any

import obstore

if TYPE_CHECKING:
    from pixel_pipeline.lake.s3.bucket import Bucket

CHUNK_BYTES = 8 * 1024**2


class RangedReader(io.RawIOBase):
    """One version of an object as a raw stream. The first request tells its size."""

    def __init__(self, bucket: "Bucket", *, key: str, etag: str | None) -> None:
        self._bucket = bucket
        self._key = key
        self._position = 0
        with bucket.translated("read", key):
            result = obstore.get(bucket.store, key, options=pinned(etag))
            self._size: int = result.meta["size"]
            self._etag = bare_etag(result.meta["e_tag"])
            # Small objects, most of a Drive, cost one request; of a large one the body of this request is left unread.
            self._whole = bytes(result.bytes()) if self._size <= CHUNK_BYTES else None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._next(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        # The base class would ask for 8 KiB at a time.
        return b"".join(iter(lambda: self._next(CHUNK_BYTES), b""))

    def _next(self, size: int) -> bytes:
        start, end = self._position, min(self._position + size, self._size)
        if start >= end:
            return b""
        if self._whole is not None:
            chunk = self._whole[start:end]
        else:
            with self._bucket.translated("read", self._key):
                # Pinned: a version that changes under us fails the read, for half of each would be neither.
                options = pinned(self._etag) | {"range": (start, end)}
                chunk = bytes(obstore.get(self._bucket.store, self._key, options=options).bytes())
        self._position += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position


def pinned(etag: str | None) -> Any:
    """Options of a GET that fails where another version lies."""
    return {} if etag is None else {"if_match": f'"{etag}"'}


def bare_etag(etag: str | None) -> str:
    """An ETag without its quotes."""
    return (etag or "").strip('"')
