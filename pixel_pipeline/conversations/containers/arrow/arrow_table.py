"""Arrow IPC, as a file (Feather) or a stream (Hugging Face `save_to_disk`): one record a row, positions are row numbers."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pixel_pipeline.conversations.containers.arrow.rows import rows_of
from pixel_pipeline.conversations.containers.container import Evidence, Input
from pixel_pipeline.conversations.containers.random_access import WatchedStream, seekable
from pixel_pipeline.conversations.model.records import Fault, Record

NAME = "arrow_table"
POSITION_KIND = "row"
IS_TEXT = False
_FILE = b"ARROW1\0\0"
_STREAM = b"\xff\xff\xff\xff"
_BATCH_ROWS = 500
_LONGEST_SCHEMA = 16 << 20


def matches(given: Input) -> Evidence:
    head = given.head[:8]
    if head == _FILE:
        return Evidence(True, "it begins like an Arrow file")
    schema_size = int.from_bytes(head[4:], "little")
    found = head[:4] == _STREAM and len(head) == 8 and 16 <= schema_size <= _LONGEST_SCHEMA
    return Evidence(found, f"it {'begins' if found else 'does not begin'} like an Arrow stream")


def read(given: Input) -> Iterator[Record | Fault]:
    if given.head.startswith(_STREAM):
        watched = WatchedStream(given.content)
        yield from rows_of(_streamed(watched), watched=watched, kind="arrow")
        return
    with seekable(given.content, given.original) as stream:
        watched = WatchedStream(stream)
        yield from rows_of(_filed(watched), watched=watched, kind="arrow")


def _streamed(watched: WatchedStream) -> Iterator[pa.RecordBatch]:
    for batch in pa.ipc.open_stream(pa.PythonFile(watched, mode="r")):
        yield from _checked(batch)


def _filed(watched: WatchedStream) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_file(pa.PythonFile(watched, mode="r"))
    for index in range(reader.num_record_batches):
        yield from _checked(reader.get_batch(index))


def _checked(batch: Any) -> Iterator[pa.RecordBatch]:
    # Arrow trusts the offsets in an IPC file: damaged ones would read memory outside of it.
    batch.validate(full=True)
    for start in range(0, batch.num_rows, _BATCH_ROWS):
        yield batch.slice(start, _BATCH_ROWS)
