"""Parquet: one record a row, positions are row numbers. Row groups are read in place if the stream is seekable."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pixel_pipeline.conversations.containers.arrow.rows import rows_of
from pixel_pipeline.conversations.containers.container import Evidence, Input
from pixel_pipeline.conversations.containers.random_access import WatchedStream, seekable
from pixel_pipeline.conversations.model.records import Fault, Record

NAME = "parquet_table"
POSITION_KIND = "row"
IS_TEXT = False
_BATCH_ROWS = 500


def matches(given: Input) -> Evidence:
    found = given.head.startswith(b"PAR1") and len(given.head) >= 12
    return Evidence(found, f"it {'begins' if found else 'does not begin'} like Parquet")


def read(given: Input) -> Iterator[Record | Fault]:
    with seekable(given.content, given.original) as stream:
        watched = WatchedStream(stream)
        yield from rows_of(_batches(watched), watched=watched, kind="parquet")


def _batches(watched: WatchedStream) -> Iterator[pa.RecordBatch]:
    yield from pq.ParquetFile(watched).iter_batches(batch_size=_BATCH_ROWS)
