"""Local copies of objects, by bucket, key and ETag, so that no other version is ever returned.

An entry is one file, `objects/<xx>/<key's digest>.<etag>.<content's digest>.data`, written atomically and verified on each use.
`<key's digest>.name` next to it contains bucket and key. A file's access time is its last use, its modification time the fetch.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
import errno
import fcntl
import hashlib
import os
from pathlib import Path
import re
import time
from typing import BinaryIO

import xxhash

from pixel_pipeline.errors import PixelError
from pixel_pipeline.files import atomic_file
from pixel_pipeline.lake.s3.bucket import ObjectInfo

BLOCK_BYTES = 1024**2
# A download that wrote nothing for this long was killed.
ABANDONED_SECONDS = 3600
LOCKS = 1024


class CacheError(PixelError):
    """The cache cannot be written, or its copy is damaged."""


class CacheFullError(CacheError):
    """The cache's disk has no room for an object."""


class Cache:
    """A folder of object copies of bounded size, for any number of processes and threads.

    Args:
        folder: Created when first needed.
        max_bytes: If the entries are larger together, the least recently used ones are removed.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        # Bytes fetched since this process last measured the cache; the first fetch makes it measure.
        self._fetched = max_bytes

    def open(
        self,
        bucket: str,
        key: str,
        *,
        etag: str,
        fetch: Callable[[], Iterable[bytes | memoryview]],
    ) -> BinaryIO:
        """Open the copy of one version of an object, fetched if it is missing or damaged.

        One process fetches; others that need the same object wait for it.

        Args:
            fetch: Returns the object's bytes. Its errors pass through and leave no entry.

        Raises:
            CacheError: the folder cannot be written; CacheFullError: its disk is full.
        """
        if (found := self._verified(self._entries(bucket, key, etag=etag))) is not None:
            return found
        with _disk_errors(self.folder), self._locked(bucket, key):
            if (found := self._verified(self._entries(bucket, key, etag=etag))) is None:
                found = self._store(bucket, key, etag=etag, chunks=fetch())
        self._evict()
        return found

    def open_newest(self, bucket: str, key: str) -> BinaryIO | None:
        """Open the copy fetched last, without asking S3; None if there is no undamaged one."""
        return self._verified(self._entries(bucket, key))

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """Describe the copy that `open_newest` would try first; `last_modified` is the time of the fetch."""
        for path in self._entries(bucket, key):
            status = path.stat()
            fetched = datetime.fromtimestamp(status.st_mtime, UTC)
            return ObjectInfo(
                key=key, size=status.st_size, etag=path.name.split(".")[1], last_modified=fetched
            )
        return None

    def names(self) -> Iterator[tuple[str, str]]:
        """Iterate over bucket and key of everything that was ever fetched."""
        for path in self.folder.glob("objects/*/*.name"):
            bucket, _, key = path.read_text(encoding="utf-8").partition("/")
            yield bucket, key

    def _stem(self, bucket: str, key: str) -> Path:
        digest = hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()[:40]
        return self.folder / "objects" / digest[:2] / digest

    def _entries(self, bucket: str, key: str, *, etag: str | None = None) -> list[Path]:
        """Return the entries of an object, newest first."""
        stem = self._stem(bucket, key)
        pattern = f"{stem.name}.{'*' if etag is None else _safe(etag)}.*.data"
        found: list[tuple[int, Path]] = []
        for path in stem.parent.glob(pattern):
            try:
                found.append((path.stat().st_mtime_ns, path))
            except FileNotFoundError:
                continue  # evicted just now
        return [path for _, path in sorted(found, reverse=True)]

    def _verified(self, entries: list[Path]) -> BinaryIO | None:
        """Open the first undamaged entry and delete damaged ones before it."""
        for path in entries:
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue
            digest = xxhash.xxh3_128()
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
            if digest.hexdigest() == path.name.split(".")[-2]:
                file.seek(0)
                # Set, because many file systems do not update access times.
                os.utime(file.fileno(), ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
                return file
            file.close()
            path.unlink(missing_ok=True)
        return None

    def _store(self, bucket: str, key: str, *, etag: str, chunks: Iterable[bytes | memoryview]) -> BinaryIO:
        stem = self._stem(bucket, key)
        stem.parent.mkdir(parents=True, exist_ok=True)
        name = stem.with_name(f"{stem.name}.name")
        if not name.exists():
            with atomic_file(name, durable=True) as file:
                file.write(f"{bucket}/{key}".encode())
        digest = xxhash.xxh3_128()

        def path() -> Path:
            return stem.with_name(f"{stem.name}.{_safe(etag)}.{digest.hexdigest()}.data")

        with ExitStack() as on_error:
            with atomic_file(stem, final=path, durable=True) as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                self._fetched += file.tell()
                # Opened here: as soon as the entry has its name, another process may evict it.
                copy = on_error.enter_context(os.fdopen(os.dup(file.fileno()), "rb"))
            on_error.pop_all()
        copy.seek(0)
        return copy

    def _evict(self) -> None:
        """Remove the least recently used entries and the files of killed processes. Open files stay readable."""
        if self._fetched < self.max_bytes // 100:
            return
        self._fetched = 0
        entries, total = [], 0
        for path in self.folder.glob("objects/*/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix == ".partial" and status.st_mtime < time.time() - ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
            elif path.suffix == ".data":
                entries.append((status.st_atime_ns, status.st_size, path))
                total += status.st_size
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size

    @contextmanager
    def _locked(self, bucket: str, key: str) -> Iterator[None]:
        # A fixed number of lock files, never deleted: another process may be waiting for one.
        number = int(self._stem(bucket, key).name, 16) % LOCKS
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{number:04}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _safe(etag: str) -> str:
    """Return an ETag as part of a file name."""
    return etag if re.fullmatch(r"[0-9A-Za-z-]{1,64}", etag) else hashlib.sha256(etag.encode()).hexdigest()


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Raise errors of the disk as CacheError. Errors of the source are PixelErrors, even if they are OSErrors too."""
    try:
        yield
    except PixelError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = CacheFullError if full else CacheError
        raise kind(
            f"The cache {folder} {'has no room: its disk is full' if full else 'cannot be written'} ({error.strerror}).",
            hint="Make room, give another folder as cache_local, lower PIXEL_CACHE_BYTES, or load without cache_local.",
        ) from None
