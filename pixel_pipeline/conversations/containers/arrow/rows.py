"""Rows of Arrow batches as records: shared by the containers of Arrow's formats."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from pixel_pipeline.conversations.containers.random_access import DAMAGE, WatchedStream
from pixel_pipeline.conversations.model.records import Fault, Record


def rows_of(
    batches: Iterable[pa.RecordBatch], *, watched: WatchedStream, kind: str
) -> Iterator[Record | Fault]:
    """Yield the rows of batches; positions are row numbers.

    Args:
        watched: The stream that the batches are read from; its own errors are raised unchanged.
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
    except DAMAGE as error:
        # Arrow's own message may quote values.
        reason = f"not readable as {kind.capitalize()} after {position} rows"
        raise watched.fault(error, f"corrupt_{kind}", reason) from None


def _batch_rows(batch: pa.RecordBatch, position: int) -> Iterator[Record | Fault]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        if batch.num_rows == 1:
            reason = f"a value cannot be read ({type(error).__name__})"
            yield Fault(position, None, batch.nbytes, "unreadable_value", reason)
            return
        # A value cannot be converted, such as text that is not UTF-8 or a date out of range: find its row.
        for index in range(batch.num_rows):
            yield from _batch_rows(batch.slice(index, 1), position + index)
        return
    for index, row in enumerate(rows):
        yield Record(position + index, row, None)
