"""Runs one task: writes its rows as files of the canonical table, and stores its quarantine and ledger as its result."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from functools import cache
import io
from typing import Any, BinaryIO, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pixel_pipeline.conversations.convert.conversion import UnalignedRange, convert_object
from pixel_pipeline.conversations.convert.rows import repeated
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.work.plan import Earlier, Piece, Task
from pixel_pipeline.conversations.work.results import (
    PART,
    DataFile,
    TaskResult,
    quarantine_of,
    store_result,
)
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket, ObjectInfo
from pixel_pipeline.lake.s3.stream import ObjectStream, StreamReader
from pixel_pipeline.lake.tables.files import Part, write_files
from pixel_pipeline.settings import Settings, get_settings

# Objects opened in advance.
AHEAD = 4


def run_task(task: Task) -> TaskResult:
    """Convert a task's pieces. Depends only on the task and the settings of its process.

    Raises:
        ObjectChangedError, ObjectNotFoundError: an object was replaced or deleted since the task was planned.
    """
    # Tasks carry no credentials: a worker connects with the settings of its own environment.
    bucket = _lake_of(get_settings()).data
    run = _Run(task, bucket)
    family = task.pieces[0].source.family
    try:
        files = write_files(
            run.rows(),
            schema=CONVERSATION_SCHEMA,
            bucket=bucket,
            key=task.table,
            suffix=task.name,
            layout=Part(PART, task.name),
        )
    except UnalignedRange:
        files, run = [], _Run(task, bucket)
        unaligned = True
    else:
        unaligned = False
    result = TaskResult(
        name=task.name,
        table=task.table,
        recipe=task.recipe,
        places=[piece.place for piece in task.pieces],
        ledger=run.ledger,
        files=[DataFile(file.path, file.size, file.stats, task.name) for file in files],
        quarantined=sum(batch.num_rows for batch in run.quarantine),
        unaligned=unaligned,
    )
    store_result(bucket, family, result, run.quarantine)
    return result


@cache
def _lake_of(settings: Settings) -> Lake:
    return Lake.open(settings)


class _Run:
    """Yields the rows of a task, and collects its quarantine and ledger on the way."""

    def __init__(self, task: Task, bucket: Bucket) -> None:
        self._task = task
        self._bucket = bucket
        self._read: tuple[str, pa.Table] | None = None
        self.quarantine: list[pa.RecordBatch] = []
        self.ledger: list[dict[str, Any]] = []

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of CONVERSATION_SCHEMA in the order of the pieces."""
        new = [piece for number, piece in enumerate(self._task.pieces) if number not in self._task.earlier]
        with closing(self._opened_ahead(new)) as streams:
            for number, piece in enumerate(self._task.pieces):
                earlier = self._task.earlier.get(number)
                if earlier is not None:
                    yield from self._reused(piece, earlier)
                else:
                    yield from self._converted(piece, next(streams))

    def _opened_ahead(self, pieces: list[Piece]) -> Generator[BinaryIO]:
        """Open the next objects while one is converted. Opening reads small objects whole."""
        with ThreadPoolExecutor(AHEAD) as pool:
            waiting = deque(pool.submit(self._open, piece) for piece in pieces[:AHEAD])
            try:
                for piece in [*pieces[AHEAD:], *[None] * min(AHEAD, len(pieces))]:
                    yield waiting.popleft().result()
                    if piece is not None:
                        waiting.append(pool.submit(self._open, piece))
            finally:
                pool.shutdown(cancel_futures=True)

    def _converted(self, piece: Piece, opened: BinaryIO) -> Iterator[pa.RecordBatch]:
        source = piece.source
        with opened as stream:
            conversion = convert_object(
                source, stream, opening=piece.opening, start=piece.start, last=piece.end == source.size
            )
            for batch in conversion:
                if batch.quarantine.num_rows:
                    self.quarantine.append(batch.quarantine)
                if batch.conversations.num_rows:
                    yield batch.conversations
        self.ledger.append(conversion.ledger.to_row())

    def _open(self, piece: Piece) -> BinaryIO:
        source = piece.source
        if piece.opening is None:
            return self._bucket.open(source.key, etag=source.etag)
        info = ObjectInfo(source.key, source.size, source.etag, last_modified=datetime.min)
        range_ = ObjectStream(self._bucket, info, start=piece.start, end=piece.end)
        return cast(BinaryIO, StreamReader(range_))

    def _reused(self, piece: Piece, earlier: Earlier) -> Iterator[pa.RecordBatch]:
        source = piece.source
        files = [self._file(key) for key in earlier.files]
        rows = pa.concat_tables([CONVERSATION_SCHEMA.empty_table(), *files])
        rows = rows.filter(pc.equal(pc.struct_field(rows["source"], "key"), source.key))
        ledger = orjson.loads(earlier.ledger)
        if ledger["quarantined"]:
            refused = quarantine_of(self._bucket, earlier.result)
            refused = refused.filter(pc.equal(refused["source_key"], source.key))
            self.quarantine += _relabelled(refused, source).to_batches()
        self.ledger.append(ledger | {"family": source.family})
        yield from _relabelled(rows, source).to_batches()

    def _file(self, key: str) -> pa.Table:
        # Consecutive pieces often come from the same earlier file.
        if self._read is None or self._read[0] != key:
            data = io.BytesIO(self._bucket.get(key))
            self._read = key, pq.read_table(data, page_checksum_verification=True).cast(CONVERSATION_SCHEMA)
        return self._read[1]


def _relabelled(rows: pa.Table, source: SourceObject) -> pa.Table:
    """Set the family, category and dataset that the object has now."""
    for name in ("category", "family", "dataset"):
        if name in rows.schema.names:
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(
                place, rows.schema.field(place), repeated(getattr(source, name), rows.num_rows)
            )
    return rows
