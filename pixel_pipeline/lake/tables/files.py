"""Rows to the Parquet files of a table: equal rows in equal order become equal bytes, however they are batched.

Files carry page checksums, so that a byte that changes later is found by whoever reads it, and their names carry the
digest of their bytes. Nothing is visible of a file until a commit names it.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
import io
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

# A file is closed once it holds so many bytes, a row group once its values have so many uncompressed.
FILE_BYTES = 64 * 1024**2
ROW_GROUP_BYTES = 32 * 1024**2
# Where open files of many partitions hold more than this together, the fullest is closed early.
OPEN_BYTES = 512 * 1024**2
# Rows are taken in portions of so many, counted from the first row: batches as they come have no say.
PORTION_ROWS = 1024
# Level 3 makes files 7 % smaller, and costs as much more time as reading JSON does.
ZSTD_LEVEL = 1


class PartitionMismatchError(PixelError):
    """Rows lie outside of the partitions that are written."""


@dataclass(frozen=True)
class Layout:
    """How a table lies on its files: by a column's values, and which of these may come. None: any."""

    column: str
    values: frozenset[str] | None = None


@dataclass(frozen=True)
class Part:
    """Files whose rows all have one value in the column that the table is laid out by; the rows come without it."""

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
    """Store rows as Parquet files below a key; at most a file is uploaded while the next one is made.

    Args:
        batches: Rows of `schema`.
        suffix: Part of every file's name, so that two writers never write the same object.
        layout: Files of their own for each value of a column. The column itself is not in the files. With a Part all rows
            are of one value.

    Returns:
        The files, to be committed.

    Raises:
        PartitionMismatchError: a row's partition is null, or none of those allowed.
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
            # One chunk, for the writer cuts pages by chunks; but no more at once, for fresh memory costs more than to copy.
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
        data = part.sink.take()
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
    """The files of one partition, one after the other."""

    def __init__(self, schema: pa.Schema, store: Callable[["_Part"], None]) -> None:
        self._schema = schema
        self._store = store
        self._group: list[pa.Table] = []
        self._group_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self.sink = _Sink()
        self.files = 0
        self.metadata: Any = None

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._group_bytes + self.sink.size

    def add(self, rows: pa.Table) -> None:
        self._group.append(rows)
        self._group_bytes += sum(_value_bytes(chunk) for column in rows.columns for chunk in column.chunks)
        if self._group_bytes >= ROW_GROUP_BYTES:
            self._write_group()
            if self.sink.size >= FILE_BYTES:
                self.close_file()

    def _write_group(self) -> None:
        if not self._group:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                pa.PythonFile(self.sink, mode="w"),
                self._schema,
                compression="zstd",
                compression_level=ZSTD_LEVEL,
                write_page_checksum=True,
                # A dictionary of texts gains nothing: soon given up, it costs nothing either.
                dictionary_pagesize_limit=64 * 1024,
                store_schema=False,
            )
        table = pa.concat_tables(self._group)
        try:
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        except pa.ArrowInvalid:
            raise SchemaMismatchError(
                "A null lies within a list or struct where this table has none."
            ) from None
        self._group, self._group_bytes = [], 0

    def close_file(self) -> None:
        """Finish the present file, if one was begun."""
        self._write_group()
        if self._writer is not None:
            self._writer.close()
            self.metadata = self._writer.writer.metadata
            self._writer = None
            self._store(self)
            self.files += 1


class _Sink(io.RawIOBase):
    """Takes what the Parquet writer writes, without ever growing a buffer by copying it."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._chunks.append(chunk)
        self.size += len(chunk)
        return len(chunk)

    def close(self) -> None:
        """The writer closes what it wrote to; the bytes are taken afterwards, and the next file begins."""

    def take(self) -> bytes:
        data = b"".join(self._chunks)
        self._chunks, self.size = [], 0
        return data


def _split(table: pa.Table, layout: Layout | Part | None) -> Iterator[tuple[str | None, pa.Table]]:
    """Rows by partition, in the order in which partitions first occur."""
    if not isinstance(layout, Layout):
        yield None, table
        return
    column = table[layout.column]
    values = pc.unique(column).to_pylist()
    if layout.values is not None:
        strange = [value for value in values if value not in layout.values]
        if strange:
            raise PartitionMismatchError(
                f"Rows of {layout.column} {_named(strange)} came with the partitions {_named(sorted(layout.values))}.",
                hint="Return only rows of the partitions that the run is for.",
            )
    if None in values:
        raise PartitionMismatchError(
            f"Column {layout.column}, which files are laid out by, is null in some rows."
        )
    rest = table.drop_columns([layout.column])
    for value in values:
        yield value, rest if len(values) == 1 else rest.filter(pc.equal(column, value))


def _named(values: list[Any]) -> str:
    # Names of partitions are public, they are folders; a wrong column may hold anything.
    shown = ", ".join(repr(value)[:40] for value in values[:3])
    return shown + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def _folder(value: str) -> str:
    """The value where it is a plain name, else its digest: the log holds the value itself."""
    return (
        value
        if re.fullmatch(r"[\w-][\w.-]{0,79}", value, re.ASCII)
        else xxhash.xxh3_128_hexdigest(value.encode())
    )


def _value_bytes(array: pa.Array) -> int:
    """Bytes of the values themselves: the same however they are sliced and whether or not a null mask is there."""
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
