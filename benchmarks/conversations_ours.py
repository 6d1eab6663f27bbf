"""This project's side of `conversations.py`, with detection, roles, repair, hashes and ledger. Runs in `.venv`."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
import io
from multiprocessing import parent_process
import os
from pathlib import Path
from tempfile import TemporaryDirectory
import time
from typing import Any, BinaryIO, cast

from benchmarks.harness import BenchmarkError, serve
from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.conversations.containers.opening import open_container
from pixel_pipeline.conversations.convert.conversion import LedgerEntry, convert_object
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.work.cutting import cut
from pixel_pipeline.conversations.work.plan import Piece
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.tables.files import write_files
from pixel_pipeline.settings import get_settings

Work = Callable[[], int]


def convert(paths: list[str], out: str, workers: int = 2) -> Work:
    """Convert local files to Parquet files in a folder, on warm worker processes. Counts conversations."""
    executor = LocalExecutor(workers=workers)
    if workers > 1:
        with TemporaryDirectory() as meeting:
            list(executor.map(partial(_meet, meeting, workers), range(workers)))
    return lambda: convert_pieces(paths, Path(out), executor)


def _meet(meeting: str, workers: int, _: int) -> None:
    """Wait for all workers, so that each has finished its imports."""
    if parent_process() is None:
        raise BenchmarkError("Expected to run in a worker process.")
    (Path(meeting) / str(os.getpid())).touch()
    while len(os.listdir(meeting)) < workers:
        time.sleep(0.01)


def convert_pieces(paths: Sequence[str], out: Path, executor: LocalExecutor) -> int:
    """Convert files on an executor, in the same pieces as objects of a lake. Returns the number of conversations."""
    pieces = [(path, piece) for path in paths for piece in pieces_of(path)]
    return sum(executor.map(partial(_convert_piece, out), list(enumerate(pieces))))


def pieces_of(path: str) -> list[Piece]:
    """Detect a file's container and cut it between records."""
    source = _source(f"gdrive/raw/bench/{Path(path).name}", size=os.path.getsize(path))
    with open(path, "rb") as file:
        opening = open_container(source, file, repaired=Counter()).opening
        return cut(source, file.raw, opening)


def _convert_piece(out: Path, numbered: tuple[int, tuple[str, Piece]]) -> int:
    number, (path, piece) = numbered
    with open(path, "rb", buffering=0) as file:
        file.seek(piece.start)
        content = _Part(file, piece.end - piece.start)
        entry = _convert(piece, cast(BinaryIO, content), bucket=_Folder(out), number=number)
    return entry.records_out


class _Part(io.RawIOBase):
    """The next `size` bytes of a file, read on demand like those of an object."""

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= size
        return size


def _source(key: str, *, size: int) -> SourceObject:
    return SourceObject(
        bucket="pixel-bench",
        key=key,
        etag="0" * 32,
        size=size,
        family="bench",
        category="priority",
        dataset="bench",
    )


def _convert(piece: Piece, stream: BinaryIO, *, bucket: Any, number: int = 0) -> LedgerEntry:
    conversion = convert_object(
        piece.source,
        stream,
        opening=piece.opening,
        start=piece.start,
        last=piece.end == piece.source.size,
    )
    write_files(
        (batch.conversations for batch in conversion),
        schema=CONVERSATION_SCHEMA,
        bucket=bucket,
        key="bench",
        suffix=f"{number:05}",
        layout=None,
    )
    return conversion.ledger


class _Folder:
    """Writes a table's files into a local folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, key: str, data: bytes) -> None:
        (self._path / Path(key).name).write_bytes(data)


class _Passing:
    """Stores each of a table's files in a bucket and deletes it immediately, to save disk space."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def put(self, key: str, data: bytes) -> None:
        self._bucket.put(key, data)
        self._bucket.delete([key])


def convert_stored(endpoint: str, bucket: str, key: str) -> Work:
    """Convert an object to Parquet files in the lake, in this process. Counts input records.

    Args:
        endpoint: Endpoint of the object.
    """
    settings = get_settings()
    lake = Lake.open(settings)
    source = Lake.open(settings.model_copy(update={"endpoint": endpoint, "bucket": bucket}))

    def work() -> int:
        with source.data.open(key) as stream:
            piece = Piece.whole(_source(key, size=0))
            entry = _convert(piece, stream, bucket=_Passing(lake.data))
        if entry.quarantined > 1:
            raise BenchmarkError(f"{entry.quarantined:,} records were quarantined; at most one may be.")
        return entry.records_in

    return work


def convert_lake(unchanged: bool) -> Work:
    """Convert the raw tier like the assets: listing, inventory, each family. Counts objects.

    Args:
        unchanged: Whether nothing has changed since the last run, so that any conversion is an error.
    """
    from pixel_pipeline.conversations.families.config import FamilyConfig
    from pixel_pipeline.conversations.work.build import convert_family, families_of
    from pixel_pipeline.lake.inventory import update_inventory
    from pixel_pipeline.lake.raw import list_raw

    settings = get_settings()
    lake = Lake.open(settings)
    config = FamilyConfig.load(settings.families_file)

    def work() -> int:
        objects = list_raw(lake).objects
        update_inventory(lake, objects, families=config.family_column)
        families = families_of(objects, config=config, bucket=lake.data.name)
        with LocalExecutor(workers=2) as executor:
            reports = [
                convert_family(lake, rule=rule, objects=members, executor=executor)
                for rule, members in families.values()
            ]
        if unchanged and not all(report.reused for report in reports):
            raise BenchmarkError("Some families were converted although nothing had changed.")
        return sum(report.objects for report in reports)

    return work


if __name__ == "__main__":
    jobs: list[Callable[..., Work]] = [convert, convert_stored, convert_lake]
    serve({job.__name__: job for job in jobs}, libraries=())
