"""The bytes of one version of an object, in order, fetched ahead."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
import hashlib
import io
from itertools import islice
from threading import Event
from typing import Any, Literal

import obstore

from pixel_pipeline.lake.s3.bucket import Bucket, ObjectInfo
from pixel_pipeline.lake.s3.errors import LakeBusyError, LakeInterruptedError, ObjectCorruptError
from pixel_pipeline.lake.s3.objects import is_md5, pinned
from pixel_pipeline.lake.s3.ranged import CHUNK_BYTES

CHUNKS_AHEAD = 3
# In addition to the client's own retries, which resume at the byte reached.
MAX_ATTEMPTS = 3
BACKOFF_SECONDS = 0.5

Verify = Literal["auto"] | bool


class ObjectStream:
    """Iterates over the bytes of an object in chunks of one ranged GET each, in bounded memory.

    Every GET is pinned to the ETag of `info`. After a dropped connection it resumes at the byte reached.

    Args:
        info: The object, from a listing or `Bucket.find`.
        start: Offset of the first byte to read.
        end: Offset after the last one; by default the object's size.
        verify: Compare the whole object with its ETag where that is an MD5 (objects uploaded in one part). "auto": on plain
            http, because TLS protects other connections.
        chunk_bytes: Size of one GET.
        ahead: GETs in progress or waiting to be consumed; a stream holds at most `(ahead + 1) * chunk_bytes`.

    Raises:
        ObjectChangedError: the object is another version by now.
        ObjectCorruptError: the MD5 differs; raised after the last chunk.
    """

    def __init__(
        self,
        bucket: Bucket,
        info: ObjectInfo,
        *,
        start: int = 0,
        end: int | None = None,
        verify: Verify = "auto",
        chunk_bytes: int = CHUNK_BYTES,
        ahead: int = CHUNKS_AHEAD,
    ) -> None:
        self.bucket = bucket
        self.info = info
        self._start = start
        self._end = info.size if end is None else min(end, info.size)
        wanted = bucket.target.allow_http if verify == "auto" else verify
        self._verify = wanted and start == 0 and self._end == info.size and is_md5(info.etag)
        self._chunk_bytes = chunk_bytes
        self._ahead = ahead
        self._closed = Event()

    def __iter__(self) -> Iterator[memoryview]:
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._chunks():
            if self._verify:
                digest.update(chunk)
            yield chunk
        if self._verify and digest.hexdigest() != self.info.etag:
            self._read_again(digest.hexdigest())

    def _chunks(self) -> Iterator[memoryview]:
        starts = iter(range(self._start, self._end, self._chunk_bytes))
        if self._end - self._start <= self._chunk_bytes:
            # Most objects of a Drive are small, and need no thread.
            yield from map(self._fetch, starts)
            return
        pool = ThreadPoolExecutor(self._ahead, thread_name_prefix="pixel-stream")
        try:
            waiting = deque(pool.submit(self._fetch, start) for start in islice(starts, self._ahead))
            while waiting:
                chunk = waiting.popleft().result()
                waiting.extend(pool.submit(self._fetch, start) for start in islice(starts, 1))
                yield chunk
        finally:
            self._closed.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, start: int) -> memoryview:
        key, end = self.info.key, min(start + self._chunk_bytes, self._end)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with self.bucket.translated("read", key):
                    options = pinned(self.info.etag or None) | {"range": (start, end)}
                    chunk = memoryview(obstore.get(self.bucket.store, key, options=options).bytes())
                if len(chunk) == end - start:
                    break
                raise LakeInterruptedError(
                    f"{self.bucket.uri(key)}: only {len(chunk)} of {end - start} bytes from {start} arrived."
                )
            except (LakeBusyError, LakeInterruptedError):
                if attempt == MAX_ATTEMPTS or self._closed.wait(BACKOFF_SECONDS * 2**attempt):
                    raise
        return chunk

    def _read_again(self, found: str) -> None:
        """Read again after a mismatch: where two readings agree, the ETag may not be an MD5, as on stores that encrypt."""
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._chunks():
            digest.update(chunk)
        if digest.hexdigest() != found or self.bucket.has_md5_etags():
            raise ObjectCorruptError(
                f"The bytes of {self.bucket.uri(self.info.key)} differ from those that were stored.",
                hint="Read it again; if it persists, run `pixel doctor` and copy the object into the lake again.",
            )


class StreamReader(io.RawIOBase):
    """An ObjectStream as a file without seeking."""

    def __init__(self, stream: ObjectStream) -> None:
        self._chunks = iter(stream)
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._chunk:
            self._chunk = next(self._chunks, self._chunk)
        part = self._chunk[: len(buffer)]
        buffer[: len(part)] = part
        self._chunk = self._chunk[len(part) :]
        return len(part)
