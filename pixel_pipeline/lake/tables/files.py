"""Writes the Parquet files of a table. Equal rows in equal order become equal bytes, however they are batched.

Each page has a checksum, which readers verify, and a file's name contains a digest of its bytes. A file is invisible until
a commit adds it.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
import re
import time
from typing import Any

from deltalake.transaction import AddAction
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as t
import xxhash

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.tables.schema import SchemaMismatchError
from pixel_pipeline.lake.tables.statistics import file_statistics

# A file is closed above this size, a row group above this size of uncompressed values.
FILE_BYTES = 64 * 1024**2
ROW_GROUP_BYTES = 32 * 1024**2
# If the open files of many partitions hold more than this together, the largest is closed early.
OPEN_BYTES = 512 * 1024**2
# Rows are cut into portions of this size, counted from the first row, whatever the batches.
PORTION_ROWS = 1024
# Level 3 makes files 7 % smaller, for as much extra time as reading JSON takes.
ZSTD_LEVEL = 1


class PartitionMismatchError(PixelError):
    """A row does not belong to the partitions that are written."""


@dataclass(frozen=True)
class Layout:
    """A table's partition column, and the values that may occur; None for any."""

    column: str
    values: frozenset[str] | None = None


@dataclass(frozen=True)
class Part:
    """One partition: its column and value. The rows come without the column."""

    column: str
    value: str


def write_files(
    batches: Iterable[pa.RecordBatch],
    *,
    schema: pa.Schema,
    bucket: Bucket,
    key: str,
    suffix: str,
    layout: Layout | Part | None,
) -> list[AddAction]:
    """Store rows as Parquet files below a key and return the files to commit. One file is uploaded while the next is written.

    Args:
        batches: Rows of `schema`.
        suffix: Part of every file's name, so that two writers never write the same object.
        layout: Partitions, which have separate files without the partition column.

    Raises:
        PartitionMismatchError: a row's partition is null, or not among those allowed.
    """
    with ThreadPoolExecutor(1) as uploads:
        writer = _Writer(schema, bucket=bucket, key=key, suffix=suffix, layout=layout, uploads=uploads)
        for batch in batches:
            writer.add(batch)
        return writer.close()


class _Writer:
    def __init__(
        self,
        schema: pa.Schema,
        *,
        bucket: Bucket,
        key: str,
        suffix: str,
        layout: Layout | Part | None,
        uploads: ThreadPoolExecutor,
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._suffix = suffix
        self._layout = layout
        self._uploads = uploads
        self._pending: Future[None] | None = None
        self._files: list[AddAction] = []
        place = schema.get_field_index(layout.column) if isinstance(layout, Layout) else -1
        self._parts: dict[str | None, _Part] = {}
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._schema = schema if place < 0 else schema.remove(place)

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(pa.Table.from_batches([batch]))
        self._waiting_rows += batch.num_rows
        if self._waiting_rows < PORTION_ROWS:
            return
        table = pa.concat_tables(self._waiting)
        whole = table.num_rows - table.num_rows % PORTION_ROWS
        for start in range(0, whole, PORTION_ROWS):
            # One chunk, because the writer cuts pages by chunks. Copying small portions costs less than allocating large ones.
            self._take(table.slice(start, PORTION_ROWS).combine_chunks())
        self._waiting = [table.slice(whole)]
        self._waiting_rows = table.num_rows - whole

    def close(self) -> list[AddAction]:
        if self._waiting_rows:
            self._take(pa.concat_tables(self._waiting).combine_chunks())
        for part in self._parts.values():
            part.close_file()
        if self._pending is not None:
            self._pending.result()
        return sorted(self._files, key=lambda file: file.path)

    def _take(self, portion: pa.Table) -> None:
        for value, rows in _split(portion, self._layout):
            if value not in self._parts:
                self._parts[value] = _Part(self._schema, partial(self._store, value))
            self._parts[value].add(rows)
        if sum(part.size for part in self._parts.values()) > OPEN_BYTES:
            max(self._parts.values(), key=lambda part: part.size).close_file()

    def _store(self, value: str | None, part: "_Part") -> None:
        data = part.sink.getvalue().to_pybytes()
        name = f"part-{part.files:05}-{xxhash.xxh3_128_hexdigest(data)[:16]}-{self._suffix}.zstd.parquet"
        column = None if self._layout is None else self._layout.column
        path = name if value is None else f"{column}={_folder(value)}/{name}"
        if isinstance(self._layout, Part):
            value = self._layout.value
        self._files.append(
            AddAction(
                path=path,
                size=len(data),
                partition_values={} if column is None else {column: value},
                modification_time=int(time.time() * 1000),
                data_change=True,
                stats=file_statistics(part.metadata),
            )
        )
        if self._pending is not None:
            self._pending.result()
        self._pending = self._uploads.submit(self._put, f"{self._key}/{path}", data)

    def _put(self, key: str, data: bytes) -> None:
        self._bucket.put(key, data)


class _Part:
    """The files of one partition, one after another."""

    def __init__(self, schema: pa.Schema, store: Callable[["_Part"], None]) -> None:
        self._schema = schema
        self._store = store
        self._group: list[pa.Table] = []
        self._group_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self.sink = pa.BufferOutputStream()
        self.files = 0
        self.metadata: Any = None

    @property
    def size(self) -> int:
        """Bytes held in memory."""
        return self._group_bytes + int(self.sink.tell())

    def add(self, rows: pa.Table) -> None:
        self._group.append(rows)
        self._group_bytes += sum(_value_bytes(chunk) for column in rows.columns for chunk in column.chunks)
        if self._group_bytes >= ROW_GROUP_BYTES:
            self._write_group()
            if self.sink.tell() >= FILE_BYTES:
                self.close_file()

    def _write_group(self) -> None:
        if not self._group:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self.sink,
                self._schema,
                compression="zstd",
                compression_level=ZSTD_LEVEL,
                write_page_checksum=True,
                # Dictionaries of texts gain nothing; a low limit stops them early.
                dictionary_pagesize_limit=64 * 1024,
                store_schema=False,
            )
        table = pa.concat_tables(self._group)
        try:
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        except pa.ArrowInvalid:
            raise SchemaMismatchError(
                "A list or struct contains a null where this table allows none."
            ) from None
        self._group, self._group_bytes = [], 0

    def close_file(self) -> None:
        """Finish the current file, if there is one."""
        self._write_group()
        if self._writer is not None:
            self._writer.close()
            self.metadata = self._writer.writer.metadata
            self._writer = None
            self._store(self)
            self.files += 1
            self.sink = pa.BufferOutputStream()


def _split(table: pa.Table, layout: Layout | Part | None) -> Iterator[tuple[str | None, pa.Table]]:
    """Split rows by partition, in order of first occurrence."""
    if not isinstance(layout, Layout):
        yield None, table
        return
    column = table[layout.column]
    values = pc.unique(column).to_pylist()
    if layout.values is not None:
        wrong = [value for value in values if value not in layout.values]
        if wrong:
            raise PartitionMismatchError(
                f"Expected rows of the partitions {_named(sorted(layout.values))}; got {layout.column} {_named(wrong)}.",
                hint="Return only rows of the partitions of the run.",
            )
    if None in values:
        raise PartitionMismatchError(f"Partition column {layout.column} is null in some rows.")
    rest = table.drop_columns([layout.column])
    for value in values:
        yield value, rest if len(values) == 1 else rest.filter(pc.equal(column, value))


def _named(values: list[Any]) -> str:
    # Partition names are folders and public, but a wrong column may contain anything: cut long values.
    shown = ", ".join(repr(value)[:40] for value in values[:3])
    return shown + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def _folder(value: str) -> str:
    """Return a plain name as it is, and the digest of any other value: the log holds the value itself."""
    return (
        value
        if re.fullmatch(r"[\w-][\w.-]{0,79}", value, re.ASCII)
        else xxhash.xxh3_128_hexdigest(value.encode())
    )


def _value_bytes(array: pa.Array) -> int:
    """Return the size of the values, independent of slicing and of null masks."""
    kind = array.type
    if t.is_list(kind):
        return 4 * len(array) + _value_bytes(array.flatten())
    if t.is_struct(kind):
        return sum(_value_bytes(child) for child in array.flatten())
    if t.is_string(kind) or t.is_binary(kind):
        if array.null_count or not len(array):
            return 4 * len(array) + (pc.sum(pc.binary_length(array)).as_py() or 0)
        offsets = np.frombuffer(array.buffers()[1], np.int32)
        return 4 * len(array) + int(offsets[array.offset + len(array)] - offsets[array.offset])
    width: int = kind.bit_width
    return len(array) * max(width // 8, 1)
