"""Local copies of objects, by bucket, key and ETag: never another version than the one asked for.

One file an entry, `objects/<xx>/<key's digest>.<etag>.<content's digest>`, renamed into place when it is whole and on disk. So
a process that is killed leaves nothing but a `.partial` file, and what a reader finds, it can check. Beside the entries of
a key lies `<key's digest>.name`, which says what it is a copy of. A file's access time is when it was last used, its
modification time when it was fetched.
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
# A download that wrote nothing for so long is dead.
ABANDONED_SECONDS = 3600
LOCKS = 1024


class CacheError(PixelError):
    """The cache cannot be written, or does not hold what is needed."""


class CacheFullError(CacheError):
    """The disk of the cache has no room for an object."""


class Cache:
    """A folder of object copies, of bounded size, for any number of processes and threads.

    Args:
        folder: Made when first needed.
        max_bytes: What was used longest ago is dropped when the entries together are larger.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        # Since this process last looked at the whole cache; the first fetch has it look.
        self._fetched = max_bytes

    def open(
        self,
        bucket: str,
        key: str,
        *,
        etag: str,
        fetch: Callable[[], Iterable[bytes | memoryview]],
    ) -> BinaryIO:
        """The copy of one version of an object, fetched if there is none or if it is damaged.

        One process fetches, others that want the same object wait for it.

        Args:
            fetch: Gives the object's bytes; its errors pass through, and leave no entry.

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
        """The copy fetched last, whatever lies in the bucket now; None where there is none that is whole."""
        return self._verified(self._entries(bucket, key))

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """The copy that `open_newest` would try first; its time is that of the fetch."""
        for path in self._entries(bucket, key):
            status = path.stat()
            fetched = datetime.fromtimestamp(status.st_mtime, UTC)
            return ObjectInfo(
                key=key, size=status.st_size, etag=path.name.split(".")[1], last_modified=fetched
            )
        return None

    def names(self) -> Iterator[tuple[str, str]]:
        """Bucket and key of everything that was ever fetched into the cache."""
        for path in self.folder.glob("objects/*/*.name"):
            bucket, _, key = path.read_text(encoding="utf-8").partition("/")
            yield bucket, key

    def _stem(self, bucket: str, key: str) -> Path:
        digest = hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()[:40]
        return self.folder / "objects" / digest[:2] / digest

    def _entries(self, bucket: str, key: str, *, etag: str | None = None) -> list[Path]:
        """Entries of an object, the newest first."""
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
        """The first entry whose bytes are those that were fetched; damaged ones are dropped."""
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
                # Access times are not kept on every file system unless they are set.
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
        """Drop what was used longest ago, and the remains of killed processes. Readers of an entry keep their open file."""
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
        # A fixed number of lock files, never deleted: deleting one that another process waits for would make it void.
        number = int(self._stem(bucket, key).name, 16) % LOCKS
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{number:04}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _safe(etag: str) -> str:
    """An ETag as part of a file name."""
    return etag if re.fullmatch(r"[0-9A-Za-z-]{1,64}", etag) else hashlib.sha256(etag.encode()).hexdigest()


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Errors of the disk in our own words; those of the source are PixelErrors, whatever else they are."""
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
