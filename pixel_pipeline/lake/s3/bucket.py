"""One bucket: its objects by key."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
import hashlib
import io
from pathlib import Path
import time
from typing import Any, BinaryIO, cast
import uuid

import obstore
import orjson

from pixel_pipeline.errors import PixelError
from pixel_pipeline.files import atomic_file
from pixel_pipeline.lake import keys
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
from pixel_pipeline.lake.s3.etags import bare_etag, is_md5
from pixel_pipeline.lake.s3.object_keys import checked_key
from pixel_pipeline.lake.s3.ranged import CHUNK_BYTES, RangedReader
from pixel_pipeline.lake.s3.target import Target
from pixel_pipeline.lake.s3.translation import translated

# Of a write that collided or arrived damaged, or a request that broke off and that the library does not repeat.
ATTEMPTS = 3
# The library's own: what is larger goes up in parts.
PART_BYTES = 5 * 1024**2
# Metadata of a created object: who made it.
WRITER = "pixel-writer"


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a listing. `size` in bytes; `etag` without quotes; `last_modified` with time zone."""

    key: str
    size: int
    etag: str
    last_modified: datetime


def _info(item: Any) -> ObjectInfo:
    return ObjectInfo(
        key=item["path"],
        size=item["size"],
        etag=bare_etag(item["e_tag"]),
        last_modified=item["last_modified"],
    )


class Bucket:
    """Objects of one bucket, by key. Every error names the operation and the object.

    A key is any Unicode text of up to 1,024 bytes without control characters, backslashes and empty, `.` or `..` parts;
    KeyNameError otherwise. Keys that look alike, or are equal in another normal form of Unicode, are different keys.

    Attributes:
        store: The client for reading, listing and deleting.

    Args:
        before_create: Called with the bucket before a write that needs conditional writes; raises if it has none.
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
        self._seen = False
        self._etags_are_md5: bool | None = None

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"

    def uri(self, key: str = "") -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.name}/{key}"

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFoundError, ObjectCorruptError."""
        content = io.BytesIO()
        self._copy(key, content)
        return content.getvalue()

    def get_json(self, key: str) -> Any:
        """The object parsed as JSON. Raises ObjectNotFoundError, or PixelError where it is no JSON."""
        try:
            return orjson.loads(self.get(key))
        except orjson.JSONDecodeError:
            raise PixelError(
                f"{self.uri(key)} is not valid JSON.", hint="Restore or delete it, and run again."
            ) from None

    def exists(self, key: str) -> bool:
        """True if there is an object at exactly this key."""
        return self.find(key) is not None

    def find(self, key: str) -> ObjectInfo | None:
        """Return the object at exactly this key, or None."""
        try:
            with self.translated("look up", checked_key(key)):
                return _info({**obstore.head(self.store, key), "path": key})
        except ObjectNotFoundError:
            # The answer is the same for a missing bucket.
            if not self._seen:
                self.check()
            return None
        except (LakeAccessError, LakeWriteError):
            # An answer to HEAD has no body with a reason; one to a listing has.
            self.check()
            raise

    def put(
        self, key: str, data: bytes | Path, *, create_only: bool = False, part_bytes: int = PART_BYTES
    ) -> str:
        """Store an object atomically; returns its ETag.

        Args:
            data: Bytes, or a local file whose bytes are streamed (multipart above `part_bytes`).
            create_only: Refuse to replace: raises ObjectExistsError when the key is taken.
            part_bytes: Size of the parts of a multipart upload. S3 takes 5 MiB to 5 GiB, and 10,000 parts.
        """
        if not create_only:
            return self._send(key, data, part_bytes=part_bytes)
        self.require_conditional_writes()
        return self.create(key, data)

    def require_conditional_writes(self) -> None:
        """Raise ConditionalWritesError if the store lacks conditional writes."""
        if self._before_create is not None:
            self._before_create(self)

    def create(self, key: str, data: bytes | Path) -> str:
        """`put(create_only=True)` without asking first whether the store honours conditional writes.

        If the response to a create was lost, the retry finds the object and recognises it by the writer's mark.
        """
        writer = uuid.uuid4().hex
        for attempt in range(ATTEMPTS):
            try:
                return self._send(key, data, creator=writer)
            except (ObjectExistsError, LakeUnreachableError) as error:
                etag = self._made_by(writer, key)
                if etag is not None:
                    return etag
                # Nothing lies there: the request broke off on its way, or collided with a delete.
                passing = isinstance(error, (ObjectExistsError, LakeInterruptedError))
                if not passing or attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def _made_by(self, writer: str, key: str) -> str | None:
        """ETag of a writer's object; None where nothing lies. Raises ObjectExistsError where it is another's."""
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
        for attempt in range(ATTEMPTS):
            try:
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
            except (LakeConflictError, ObjectCorruptError):
                # The library repeats 5xx and broken connections, not these.
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def put_json(self, key: str, value: Any) -> str:
        """Store a value as indented JSON with sorted keys, so that equal values are equal bytes."""
        return self.put(key, orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below a prefix, sorted by key. The prefix is a folder: `a/b` does not list `a/bc`."""
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
                            yield _info(item)
                return
            except LakeInterruptedError:
                # The library gives up where a page breaks off. What was told is told: the rest follows.
                failures += 1
                if failures == ATTEMPTS:
                    raise

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key without an object is no error."""
        wanted = [checked_key(key) for key in keys]
        for start in range(0, len(wanted), 1000):
            for attempt in range(ATTEMPTS):
                try:
                    with self.translated("delete", wanted[start]):
                        obstore.delete(self.store, wanted[start : start + 1000])
                    break
                except LakeInterruptedError:
                    if attempt == ATTEMPTS - 1:
                        raise

    def download(self, key: str, path: Path) -> None:
        """Stream an object into a local file that appears whole or not at all. Raises as `get` does."""
        with atomic_file(path) as file:
            self._copy(key, file)

    def _copy(self, key: str, file: BinaryIO) -> None:
        """Write an object into an empty file. What does not have the MD5 that its ETag tells is read a second time.

        Raises:
            ObjectNotFoundError: nothing lies at the key.
            ObjectChangedError: it was replaced meanwhile.
            ObjectCorruptError: both times other bytes came than were stored.
        """
        came: set[tuple[str, str]] = set()
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
            # ETags of multipart uploads and of encrypted objects are something else.
            if self._etags_are_md5 is False or not is_md5(etag):
                return
            came.add((etag, digest.hexdigest()))
        if len(came) == 2 or self.has_md5_etags():
            raise ObjectCorruptError(
                f"{self.uri(key)} does not arrive as it was stored: its MD5 is not its ETag, twice.",
                hint="Check the network and the server's disk; restore the object if it stays so.",
            )

    def _version(self, key: str) -> tuple[str, Iterator[bytes | memoryview]]:
        """ETag and bytes of the version that lies at a key."""
        with self.translated("read", checked_key(key)):
            result = obstore.get(self.store, key)
            etag = bare_etag(result.meta["e_tag"])
            if result.meta["size"] <= CHUNK_BYTES:
                return etag, iter([memoryview(result.bytes())])
        reader = self.open(key, etag=etag)
        return etag, iter(lambda: reader.read(CHUNK_BYTES), b"")

    def has_md5_etags(self) -> bool:
        """Whether this store's ETag of a small object is its MD5, by trying; where that is not allowed, no."""
        if self._etags_are_md5 is None:
            key = f"{keys.PROBES}/{uuid.uuid4().hex}"
            try:
                etag = self._send(key, b"probe")
                self.delete([key])
            except (LakeAccessError, LakeWriteError, LakeUnreachableError):
                return False
            self._etags_are_md5 = etag == hashlib.md5(b"probe", usedforsecurity=False).hexdigest()
        return self._etags_are_md5

    def open(self, key: str, *, etag: str | None = None) -> BinaryIO:
        """A seekable binary reader over ranged GETs of 8 MiB, all pinned to one version of the object.

        Args:
            etag: The version expected there, without quotes; by default the one that lies there now.

        Raises:
            ObjectNotFoundError: nothing lies at the key.
            ObjectChangedError: another version lies there, at once or later while reading.
        """
        return cast(BinaryIO, io.BufferedReader(self.open_raw(key, etag=etag), CHUNK_BYTES))

    def open_raw(self, key: str, *, etag: str | None = None) -> RangedReader:
        """`open` without its buffer, for a reader that has its own."""
        checked_key(key)
        return RangedReader(self.store, key=key, etag=etag, translated=lambda: self.translated("read", key))

    def check(self) -> None:
        """One cheap listing, so that a wrong setting is told before any work is done."""
        with self.translated("list", ""):
            next(iter(obstore.list(self.store, "_pixel/", chunk_size=1)), None)
        self._seen = True

    def translated(self, operation: str, key: str) -> AbstractContextManager[None]:
        """Errors of the S3 client inside the block, in our own words (`translation.py`)."""
        return translated(operation, key=key, bucket=self.name, target=self.target)
