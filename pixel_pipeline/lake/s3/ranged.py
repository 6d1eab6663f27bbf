"""Objects as seekable streams."""

from collections.abc import Callable
from contextlib import AbstractContextManager
import io
from typing import Any

import obstore
from obstore.store import S3Store

from pixel_pipeline.lake.s3.objects import bare_etag, pinned

CHUNK_BYTES = 8 * 1024**2


class RangedReader(io.RawIOBase):
    """One version of an object as a seekable raw stream of ranged GETs. The first request returns its size.

    Args:
        etag: Version to read; the current one by default.
        translated: Context in which errors of the S3 client become errors of ours.
    """

    def __init__(
        self,
        store: S3Store,
        *,
        key: str,
        etag: str | None,
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._store = store
        self._key = key
        self._translated = translated
        self._position = 0
        with translated():
            result = obstore.get(store, key, options=pinned(etag))
            self._size: int = result.meta["size"]
            self._etag = bare_etag(result.meta["e_tag"])
            # A small object, as most of a Drive are, costs one request; the body of a large one's first request is not read.
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
            with self._translated():
                # Pinned, so that a read never mixes two versions.
                options = pinned(self._etag) | {"range": (start, end)}
                chunk = bytes(obstore.get(self._store, self._key, options=options).bytes())
        self._position += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position
