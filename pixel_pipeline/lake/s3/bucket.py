"""Objects of one bucket, by key.

Over 300 lines: one class with every operation on objects and its retries.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
import hashlib
import io
from pathlib import Path
import time
from typing import Any, BinaryIO, TypeVar, cast
import uuid

import obstore
import orjson

from pixel_pipeline.errors import PixelError
from pixel_pipeline.files import atomic_file
from pixel_pipeline.lake.keys import PROBES
from pixel_pipeline.lake.s3 import client
from pixel_pipeline.lake.s3.client import object_store
from pixel_pipeline.lake.s3.errors import (
    LakeAccessError,
    LakeConflictError,
    LakeInterruptedError,
    LakeUnreachableError,
    LakeWriteError,
    ObjectCorruptError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from pixel_pipeline.lake.s3.object_keys import checked_key
from pixel_pipeline.lake.s3.objects import ObjectInfo, bare_etag, is_md5
from pixel_pipeline.lake.s3.ranged import CHUNK_BYTES, RangedReader
from pixel_pipeline.lake.s3.target import Target
from pixel_pipeline.lake.s3.translation import translated

# Of requests that fail in a way that obstore does not repeat: collisions, damaged uploads, broken connections.
ATTEMPTS = 3
# obstore's own limit: larger objects are uploaded in parts.
PART_BYTES = 5 * 1024**2
# Metadata that names the writer of a created object.
WRITER = "pixel-writer"

__all__ = ["PART_BYTES", "Bucket", "ObjectInfo"]

_T = TypeVar("_T")


class Bucket:
    """Objects of one bucket, by key. Every error names the operation and the object.

    A key is any Unicode text of up to 1,024 bytes without control characters, backslashes and empty, `.` or `..` parts;
    KeyNameError otherwise.

    Args:
        before_create: Called with the bucket before a write that needs conditional writes; raises if the store has none.

    Attributes:
        store: Client for reading, listing and deleting.
    """

    def __init__(
        self, *, name: str, target: Target, before_create: Callable[["Bucket"], None] | None = None
    ) -> None:
        self.name = name
        self.target = target
        self._before_create = before_create
        self.store = object_store(
            name, target=target, timeout=client.READ_SECONDS, read_timeout=client.STALL_SECONDS
        )
        self._uploads = object_store(name, target=target, timeout=client.REQUEST_SECONDS)
        self._is_known = False
        self._etags_are_md5: bool | None = None

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"

    def uri(self, key: str = "") -> str:
        """Return `s3://bucket/key`."""
        return f"s3://{self.name}/{key}"

    def get(self, key: str) -> bytes:
        """Return an object's bytes. Raises ObjectNotFoundError, ObjectCorruptError."""
        content = io.BytesIO()
        self._copy(key, content)
        return content.getvalue()

    def get_json(self, key: str) -> Any:
        """Return an object's JSON value. Raises ObjectNotFoundError, or PixelError if it is not JSON."""
        try:
            return orjson.loads(self.get(key))
        except orjson.JSONDecodeError:
            raise PixelError(
                f"{self.uri(key)} is not valid JSON.", hint="Restore or delete it, and run again."
            ) from None

    def download(self, key: str, path: Path) -> None:
        """Copy an object into a local file, atomically. Raises as `get` does."""
        with atomic_file(path) as file:
            self._copy(key, file)

    def open(self, key: str, *, etag: str | None = None) -> BinaryIO:
        """Return a seekable reader over ranged GETs of 8 MiB, all pinned to one version of the object.

        Args:
            etag: Version to read, without quotes; the current one by default.

        Raises:
            ObjectNotFoundError: there is no such object.
            ObjectChangedError: it is another version, at once or later while reading.
        """
        return cast(BinaryIO, io.BufferedReader(self.open_raw(key, etag=etag), CHUNK_BYTES))

    def open_raw(self, key: str, *, etag: str | None = None) -> RangedReader:
        """`open` without a buffer, for a reader that has its own."""
        checked_key(key)
        return RangedReader(self.store, key=key, etag=etag, translated=lambda: self.translated("read", key))

    def exists(self, key: str) -> bool:
        """True if there is an object at exactly this key."""
        return self.find(key) is not None

    def find(self, key: str) -> ObjectInfo | None:
        """Return the object at exactly this key, or None."""
        try:
            with self.translated("look up", checked_key(key)):
                return ObjectInfo.of({**obstore.head(self.store, key), "path": key})
        except ObjectNotFoundError:
            # A missing bucket gives the same response.
            if not self._is_known:
                self.check()
            return None
        except (LakeAccessError, LakeWriteError):
            # A response to HEAD has no body with a reason; one to a listing has.
            self.check()
            raise

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Iterate over all objects in a folder, sorted by key. `a/b` does not list `a/bc`."""
        folder = prefix.rstrip("/")
        if folder:
            checked_key(folder)
        last: str | None = None
        failures = 0
        while True:
            try:
                with self.translated("list", prefix):
                    for batch in obstore.list(self.store, folder or None, offset=last, chunk_size=1000):
                        failures = 0
                        for item in batch:
                            last = item["path"]
                            yield ObjectInfo.of(item)
                return
            except LakeInterruptedError:
                # obstore does not repeat a page that breaks off; continue behind the last key.
                failures += 1
                if failures == ATTEMPTS:
                    raise

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. Keys without an object are ignored."""
        checked = [checked_key(key) for key in keys]
        for start in range(0, len(checked), 1000):
            batch = checked[start : start + 1000]
            _repeated(partial(self._delete, batch), on=LakeInterruptedError)

    def _delete(self, batch: Sequence[str]) -> None:
        with self.translated("delete", batch[0]):
            obstore.delete(self.store, batch)

    def put(
        self, key: str, data: bytes | Path, *, create_only: bool = False, part_bytes: int = PART_BYTES
    ) -> str:
        """Store an object atomically and return its ETag.

        Args:
            data: Bytes, or a local file whose bytes are streamed (multipart above `part_bytes`).
            create_only: Raise ObjectExistsError instead of replacing an object.
            part_bytes: Size of the parts of a multipart upload. S3 accepts 5 MiB to 5 GiB, and 10,000 parts.
        """
        if not create_only:
            return self._send(key, data, part_bytes=part_bytes)
        self.require_conditional_writes()
        return self.create(key, data)

    def put_json(self, key: str, value: Any) -> str:
        """Store a value as indented JSON with sorted keys, so that equal values become equal bytes."""
        return self.put(key, orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))

    def require_conditional_writes(self) -> None:
        """Raise ConditionalWritesError if the store lacks conditional writes."""
        if self._before_create is not None:
            self._before_create(self)

    def create(self, key: str, data: bytes | Path) -> str:
        """`put(create_only=True)` without asking first whether the store honours conditional writes.

        A create whose response was lost recognises its own object by the writer's name.
        """
        writer = uuid.uuid4().hex
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._send(key, data, creator=writer)
            except (ObjectExistsError, LakeUnreachableError) as error:
                etag = self._created_by(writer, key)
                if etag is not None:
                    return etag
                # There is no object: the request broke off on its way, or collided with a deletion.
                may_pass = isinstance(error, (ObjectExistsError, LakeInterruptedError))
                if not may_pass or attempt == ATTEMPTS:
                    raise
                _pause(attempt)
        raise AssertionError("unreachable")

    def _created_by(self, writer: str, key: str) -> str | None:
        """Return the ETag of a writer's object, or None without one. Raises ObjectExistsError for another writer's."""
        try:
            with self.translated("look up", key):
                found = obstore.get(self.store, key, options={"head": True})
        except ObjectNotFoundError:
            return None
        if found.attributes.get(WRITER) != writer:
            raise ObjectExistsError(f"{self.uri(key)} exists already.") from None
        return bare_etag(found.meta["e_tag"])

    def _send(
        self, key: str, data: bytes | Path, *, creator: str | None = None, part_bytes: int = PART_BYTES
    ) -> str:
        def attempt() -> str:
            with self.translated("write", checked_key(key)):
                result = obstore.put(
                    self._uploads,
                    key,
                    data,
                    mode="overwrite" if creator is None else "create",
                    attributes=None if creator is None else {WRITER: creator},
                    chunk_size=part_bytes,
                )
            return bare_etag(result["e_tag"])

        return _repeated(attempt, on=(LakeConflictError, ObjectCorruptError))

    def _copy(self, key: str, file: BinaryIO) -> None:
        """Write an object into an empty file. If its MD5 is not its ETag, it is read once more.

        Raises:
            ObjectNotFoundError: there is no such object.
            ObjectChangedError: it was replaced meanwhile.
            ObjectCorruptError: the bytes differ from the stored ones both times.
        """
        seen: set[tuple[str, str]] = set()
        for _ in range(2):
            file.seek(0)
            file.truncate()
            digest = hashlib.md5(usedforsecurity=False)
            etag, chunks = self._version(key)
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() == etag:
                self._etags_are_md5 = True
                return
            # The ETags of multipart uploads and of encrypted objects are no MD5.
            if self._etags_are_md5 is False or not is_md5(etag):
                return
            seen.add((etag, digest.hexdigest()))
        if len(seen) == 2 or self.has_md5_etags():
            raise ObjectCorruptError(
                f"{self.uri(key)} was read twice, and its MD5 differed from its ETag.",
                hint="Check the network and the server's disk; restore the object if the error persists.",
            )

    def _version(self, key: str) -> tuple[str, Iterator[bytes | memoryview]]:
        """Return the ETag and bytes of the current version."""
        with self.translated("read", checked_key(key)):
            result = obstore.get(self.store, key)
            etag = bare_etag(result.meta["e_tag"])
            if result.meta["size"] <= CHUNK_BYTES:
                return etag, iter([memoryview(result.bytes())])
        reader = self.open(key, etag=etag)
        return etag, iter(lambda: reader.read(CHUNK_BYTES), b"")

    def has_md5_etags(self) -> bool:
        """Test with a probe object whether ETags are MD5 digests here; False without the right to write."""
        if self._etags_are_md5 is None:
            key = f"{PROBES}/{uuid.uuid4().hex}"
            try:
                etag = self._send(key, b"probe")
                self.delete([key])
            except (LakeAccessError, LakeWriteError, LakeUnreachableError):
                return False
            self._etags_are_md5 = etag == hashlib.md5(b"probe", usedforsecurity=False).hexdigest()
        return self._etags_are_md5

    def check(self) -> None:
        """List one key, so that a wrong setting fails before any work is done."""
        with self.translated("list", ""):
            next(iter(obstore.list(self.store, "_pixel/", chunk_size=1)), None)
        self._is_known = True

    def translated(self, operation: str, key: str) -> AbstractContextManager[None]:
        """Raise errors of the S3 client inside the block as PixelErrors (`translation.py`)."""
        return translated(operation, key=key, bucket=self.name, target=self.target)


def _repeated(work: Callable[[], _T], *, on: type[Exception] | tuple[type[Exception], ...]) -> _T:
    for attempt in range(1, ATTEMPTS):
        try:
            return work()
        except on:
            _pause(attempt)
    return work()


def _pause(attempt: int) -> None:
    time.sleep(0.05 * 2**attempt)
