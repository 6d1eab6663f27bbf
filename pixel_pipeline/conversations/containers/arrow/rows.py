"""Rows of Arrow batches as records: shared by the containers that Arrow reads."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from pixel_pipeline.conversations.containers.random_access import WatchedStream
from pixel_pipeline.conversations.model.records import Fault, ObjectError, Record


def rows_of(
    batches: Iterable[pa.RecordBatch], *, watched: WatchedStream, kind: str
) -> Iterator[Record | Fault]:
    """Hands out the rows of batches; positions are row numbers.

    Args:
        watched: What the batches are read from: its own errors pass, all others are the object's.
        kind: Name of the file format, lower case.

    Raises:
        ObjectError: `corrupt_<kind>`: the rest cannot be read.
    """
    position = 0
    try:
        for batch in batches:
            batch.validate()
            yield from _batch_rows(batch, position)
            position += batch.num_rows
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        if watched.error is not None:
            raise watched.error from None
        # Arrow's own message may quote values.
        reason = f"not readable as {kind.capitalize()} after {position} rows ({type(error).__name__})"
        raise ObjectError(f"corrupt_{kind}", reason) from None


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
