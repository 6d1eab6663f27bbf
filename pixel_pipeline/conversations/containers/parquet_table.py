"""Parquet: one record a row, positions are row numbers. Row groups are read in place where the object can
be."""

from collections.abc import Iterator
import io
import shutil
import tempfile
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pixel_pipeline.conversations.containers.opened import Input
from pixel_pipeline.conversations.containers.streams import CHUNK
from pixel_pipeline.conversations.records import Fault, ObjectError, Record

NAME = "parquet_table"
POSITION_KIND = "row"
IS_TEXT = False
_BATCH_ROWS = 500
_IN_MEMORY = 64 << 20


def matches(given: Input) -> bool:
    return given.head.startswith(b"PAR1") and len(given.head) >= 12


def read(given: Input) -> Iterator[Record | Fault]:
    if given.original is not None:
        yield from _rows(_Watched(given.original))
        return
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spooled:
        shutil.copyfileobj(given.content, spooled, CHUNK)
        yield from _rows(_Watched(spooled))


class _Watched(io.RawIOBase):
    """Remembers an error of the stream itself: Arrow reports damage as OSError too, and only damage is the
    object's fault."""

    def __init__(self, stream: Any) -> None:
        self._stream: BinaryIO = stream
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        try:
            return self._stream.read(-1 if size is None else size)
        except Exception as error:
            self.error = error
            raise


def _rows(watched: _Watched) -> Iterator[Record | Fault]:
    position = 0
    try:
        table = pq.ParquetFile(watched)
        for batch in table.iter_batches(batch_size=_BATCH_ROWS):
            yield from _batch_rows(batch, position)
            position += batch.num_rows
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if watched.error is not None:
            raise watched.error from None
        if isinstance(error, ObjectError):
            raise
        # Arrow's own message may quote values.
        reason = f"not readable as Parquet after {position} rows ({type(error).__name__})"
        raise ObjectError("corrupt_parquet", reason) from None


def _batch_rows(batch: pa.RecordBatch, position: int) -> Iterator[Record | Fault]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        # One value cannot be shown, as text that is not UTF-8 or a date out of range: find its row.
        for index in range(batch.num_rows):
            yield _row(batch.slice(index, 1), position + index)
        return
    for index, row in enumerate(rows):
        yield Record(position + index, row, None)


def _row(batch: pa.RecordBatch, position: int) -> Record | Fault:
    try:
        return Record(position, batch.to_pylist()[0], None)
    except (ValueError, OverflowError, pa.ArrowException) as error:
        reason = f"a value cannot be read ({type(error).__name__})"
        return Fault(position, None, batch.nbytes, "unreadable_value", reason)
