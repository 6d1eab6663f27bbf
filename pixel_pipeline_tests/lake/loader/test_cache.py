"""Local copies: the right version and bytes, or none, even if processes are killed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
import errno
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import pytest

from pixel_pipeline.lake.loader import cache as module
from pixel_pipeline.lake.loader.cache import Cache, CacheError, CacheFullError
from pixel_pipeline.lake.loader.catalogue import CachedCatalogue
from pixel_pipeline.lake.loader.resolution import DatasetNotFoundError, resolve
from pixel_pipeline.lake.s3.errors import LakeUnreachableError

PLENTY = 10**9


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", max_bytes=PLENTY)


def read(cache: Cache, key: str, content: bytes | None, *, etag: str = "e") -> bytes:
    """Read a copy; without content, fetching fails the test."""

    def fetch() -> Iterator[bytes]:
        assert content is not None, "fetched again"
        yield content[:3]
        yield content[3:]

    with cache.open("bucket", key, etag=etag, fetch=fetch) as file:
        return file.read()


def entries(cache: Cache, suffix: str = "data") -> list[Path]:
    return sorted(cache.folder.glob(f"objects/*/*.{suffix}"))


def test_fetched_once_for_each_version(cache: Cache) -> None:
    assert read(cache, "k", b"first", etag="1") == b"first"
    assert read(cache, "k", None, etag="1") == b"first"
    assert read(cache, "k", b"second", etag="2") == b"second"
    assert read(cache, "k", None, etag="1") == b"first"
    assert read(cache, "other", b"third", etag="1") == b"third"
    assert len(entries(cache)) == 3
    assert entries(cache, "partial") == []


@pytest.mark.parametrize("etag", ["0123abcd-17", "../../escape", "with/slash", "*", "é" * 300, 'W/"x"'])
def test_any_etag_and_key_stays_in_the_folder(cache: Cache, etag: str) -> None:
    assert read(cache, "../k", b"content", etag=etag) == b"content"
    assert read(cache, "../k", None, etag=etag) == b"content"
    assert [path.is_relative_to(cache.folder) for path in entries(cache)] == [True]
    assert {path.name for path in cache.folder.parent.iterdir()} == {"cache"}


def test_a_damaged_copy_is_fetched_again(cache: Cache) -> None:
    read(cache, "k", b"content")
    entries(cache)[0].write_bytes(b"contenT")
    assert read(cache, "k", b"content") == b"content"
    entries(cache)[0].write_bytes(b"cont")
    assert cache.open_newest("bucket", "k") is None
    assert read(cache, "k", b"content") == b"content"


def test_a_failed_fetch_leaves_nothing(cache: Cache) -> None:
    def fetch() -> Iterator[bytes]:
        yield b"half"
        raise LakeUnreachableError("gone")

    with pytest.raises(LakeUnreachableError, match="gone"):
        cache.open("bucket", "k", etag="e", fetch=fetch)
    assert entries(cache) == entries(cache, "partial") == []
    assert read(cache, "k", b"content") == b"content"


def test_the_least_recently_used_entry_is_removed_first(cache: Cache) -> None:
    cache.max_bytes = 25
    for number in range(3):
        read(cache, f"k{number}", b"0123456789" if number < 2 else b"01234")
    read(cache, "k0", None)
    read(cache, "k3", b"0123456789")
    read(cache, "k0", None)
    read(cache, "k2", None)
    read(cache, "k3", None)
    assert cache.find("bucket", "k1") is None
    assert sum(path.stat().st_size for path in entries(cache)) <= 25


def test_an_evicted_copy_stays_readable_while_it_is_open(cache: Cache) -> None:
    cache.max_bytes = 4
    with cache.open("bucket", "k", etag="e", fetch=lambda: [b"content"]) as file:
        assert entries(cache) == []
        assert file.read() == b"content"


def test_many_readers_fetch_once(cache: Cache) -> None:
    fetched: list[int] = []
    barrier = threading.Barrier(8)

    def fetch() -> Iterator[bytes]:
        fetched.append(1)
        yield b"content" * 10_000

    def reader(_: int) -> bytes:
        barrier.wait()
        with Cache(cache.folder, max_bytes=PLENTY).open("bucket", "k", etag="e", fetch=fetch) as file:
            return file.read()

    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(reader, range(8))} == {b"content" * 10_000}
    assert fetched == [1]


FETCHER = """
import sys, time
from pathlib import Path
from pixel_pipeline.lake.loader.cache import Cache

def fetch():
    for block in range(40):
        yield bytes([block]) * 50_000
        print(block, flush=True)
        sys.stdin.readline()

cache = Cache(Path(sys.argv[1]), max_bytes=10**9)
with cache.open("bucket", "k", etag="e", fetch=fetch) as file:
    print("done", len(file.read()), flush=True)
"""


def test_a_killed_download_is_never_served(cache: Cache) -> None:
    """kill -9 after several numbers of blocks; the lock of the killed process is free at once."""
    whole = b"".join(bytes([block]) * 50_000 for block in range(40))
    for blocks in (1, 20, 40):
        with subprocess.Popen(
            [sys.executable, "-c", FETCHER, str(cache.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for block in range(blocks):
                assert process.stdout.readline() == f"{block}\n"
                if block < blocks - 1:
                    process.stdin.write("\n")
                    process.stdin.flush()
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert entries(cache) == []
        assert cache.open_newest("bucket", "k") is None
        assert len(entries(cache, "partial")) >= 1
    assert read(cache, "k", whole) == whole


def test_files_of_killed_processes_are_deleted(cache: Cache) -> None:
    read(cache, "k", b"content")
    folder = entries(cache)[0].parent
    old, new = folder / "a.partial", folder / "b.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    hours_ago = time.time() - 2 * module.ABANDONED_SECONDS
    os.utime(old, (hours_ago, hours_ago))
    read(Cache(cache.folder, max_bytes=PLENTY), "other", b"content")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_full_disk_raises_an_error(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheFullError, match=r"has no room(?s:.*)PIXEL_CACHE_BYTES"):
        read(cache, "k", b"content")
    assert entries(cache) == entries(cache, "partial") == []


def test_a_folder_that_cannot_be_written_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheError, match="cannot be written"):
        read(Cache(tmp_path / "file" / "cache", max_bytes=PLENTY), "k", b"content")


def test_the_newest_copy_and_its_name(cache: Cache) -> None:
    assert cache.open_newest("bucket", "k") is None
    assert [*cache.names()] == []
    read(cache, "k", b"first", etag="1")
    read(cache, "k", b"second", etag="2")
    read(cache, "k", None, etag="1")
    newest = cache.open_newest("bucket", "k")
    assert newest is not None
    with newest:
        assert newest.read() == b"second"
    assert [*cache.names()] == [("bucket", "k")]
    info = cache.find("bucket", "k")
    assert info is not None
    assert (info.key, info.size, info.etag) == ("k", 6, "2")


def test_names_are_found_among_cached_copies(cache: Cache) -> None:
    read(cache, "gdrive/processed/cot/d.json", b"content")
    read(cache, "gdrive/raw/sub/größe.json", b"content")
    catalogue = CachedCatalogue(cache, bucket="bucket")
    assert resolve("d.json", catalogue).key == "gdrive/processed/cot/d.json"
    assert resolve("größe.json", catalogue).key == "gdrive/raw/sub/größe.json"
    with pytest.raises(DatasetNotFoundError, match=r"cot/d\.json"):
        resolve("dd.json", catalogue)
    with pytest.raises(
        DatasetNotFoundError, match=r"no local copy of a dataset 'd\.json'(?s:.*)PIXEL_OFFLINE"
    ):
        resolve("d.json", CachedCatalogue(cache, bucket="other"))
