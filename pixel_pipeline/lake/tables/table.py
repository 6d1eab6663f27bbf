"""Delta tables in the data bucket. Every change is one atomic commit; older versions stay readable."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
import uuid

from deltalake import DeltaTable
from deltalake.transaction import AddAction
import orjson
import pyarrow as pa

from pixel_pipeline.lake.tables.files import Layout, write_files
from pixel_pipeline.lake.tables.log import (
    Change,
    TableMissingError,
    VersionGoneError,
    partition_column,
    partitions_of,
    schema_of,
)
from pixel_pipeline.lake.tables.reading import TableReader
from pixel_pipeline.lake.tables.schema import SchemaMismatchError, cast_batches, evolved, storable

__all__ = ["Commit", "Table", "TableMissingError", "VersionGoneError"]


@dataclass(frozen=True)
class Commit:
    """A write: the version it made, and the rows, files and bytes of files it wrote."""

    version: int
    rows: int
    files: int
    bytes: int


class Table(TableReader):
    """One Delta table, by its key in the data bucket.

    A write becomes visible in one commit or not at all: data files first, then the log entry. No reader sees the files that a
    killed writer left, and vacuum deletes them. Of two concurrent writers, the second commit builds on the first; if both
    replace the same partition, the later one's rows stay.
    """

    def overwrite(
        self,
        data: pa.Table | pa.RecordBatchReader,
        *,
        partition_by: str | None = None,
        partition: Mapping[str, str | Collection[str]] | None = None,
        note: Mapping[str, str] | None = None,
        schema: Literal["evolve", "replace"] | None = None,
    ) -> Commit:
        """Replace the table, or some of its partitions, in one commit.

        Args:
            data: All rows of the table or, with `partition`, all rows of these partitions. A stream is read once, in bounded
                memory. An error of the stream is raised unchanged, and nothing is committed.
            partition_by: Partition column, of strings, for the life of the table.
            partition: `{column: value}` or `{column: values}` of the rows to replace. Partitions without rows are emptied.
            note: Metadata of the commit; names begin with "pixel.". No conversation text, no secrets.
            schema: "evolve" keeps the table's columns and adds new ones (`schema.evolved`); "replace" uses those of `data`.
                By default, whole tables are replaced and partitions evolve.

        Raises:
            SchemaMismatchError: columns that the table cannot have.
            PartitionMismatchError: a row of another partition.
        """
        layout = None if partition_by is None else Layout(partition_by)
        filters = None
        if partition is not None:
            if schema == "replace":
                raise SchemaMismatchError(
                    f"The columns of {self.uri} cannot be replaced with those of some partitions.",
                    hint="Write the whole table at once.",
                )
            ((column, values),) = partition.items()
            layout = Layout(column, frozenset([values] if isinstance(values, str) else values))
            filters = [(column, "in", sorted(layout.values or ()))]
        evolve = schema == "evolve" or (schema is None and partition is not None)

        def change(table: DeltaTable, written: pa.Schema) -> Change:
            target = evolved(schema_of(table), written) if evolve else written
            return Change(schema=target, mode="overwrite", filters=filters)

        return self._write(data, layout=layout, evolve=evolve, change=change, note=note)

    def append(
        self, rows: pa.Table | pa.RecordBatchReader, *, note: Mapping[str, str] | None = None
    ) -> Commit:
        """Add rows in one commit, creating the table if necessary. New nullable columns are added to it.

        Raises:
            SchemaMismatchError: columns that the table cannot have.
        """

        def change(table: DeltaTable, written: pa.Schema) -> Change:
            return Change(schema=evolved(schema_of(table), written), mode="append")

        return self._write(rows, layout=None, evolve=True, change=change, note=note)

    def exchange(
        self,
        files: Sequence[AddAction],
        *,
        gone: Collection[str],
        schema: pa.Schema,
        partition_by: str,
        note: Mapping[str, str] | None = None,
    ) -> int:
        """Add stored files to the table and remove partitions from it, in one commit. Returns the version.

        A table with another partition column or other columns is replaced completely.

        Args:
            files: Results of `write_files` for a Part each; none of a partition that exists and is not in `gone`.
            gone: Values of `partition_by` whose rows are removed.
            schema: Columns of the table, including `partition_by`.
        """
        stored = storable(schema)

        def change(table: DeltaTable) -> Change:
            if partition_column(table) != partition_by or not schema_of(table).equals(stored):
                return Change(schema=stored, mode="renew")
            if not gone:
                return Change(schema=stored, mode="append")
            if partitions_of(table, partition_by) <= set(gone):
                return Change(schema=stored, mode="overwrite")
            return Change(schema=stored, mode="overwrite", filters=[(partition_by, "in", sorted(gone))])

        return self.log.commit(
            files, schema=stored, partition_by=[partition_by], change=change, note=note or {}
        )

    def _write(
        self,
        data: pa.Table | pa.RecordBatchReader,
        *,
        layout: Layout | None,
        evolve: bool,
        change: Callable[[DeltaTable, pa.Schema], Change],
        note: Mapping[str, str] | None,
    ) -> Commit:
        """Write the files, then commit them."""
        self.lake.data.require_conditional_writes()
        offered = storable(data.schema)
        table = self.log.newest()
        if table is not None and layout is None and (column := partition_column(table)) is not None:
            layout = Layout(column)
        if table is not None and evolve:
            target = evolved(schema_of(table), offered)
            offered = pa.schema([field for field in target if field.name in offered.names])
        self._check_layout(table, layout, schema=offered)
        files = write_files(
            cast_batches(data, offered),
            schema=offered,
            bucket=self.lake.data,
            key=self.key,
            # No two writers put the same object.
            suffix=uuid.uuid4().hex[:12],
            layout=layout,
        )

        def checked(table: DeltaTable) -> Change:
            self._check_layout(table, layout, schema=offered)
            return change(table, offered)

        version = self.log.commit(
            files,
            schema=offered,
            partition_by=[] if layout is None else [layout.column],
            change=checked,
            note=note or {},
        )
        return Commit(
            version=version,
            rows=sum(orjson.loads(file.stats)["numRecords"] for file in files),
            files=len(files),
            bytes=sum(file.size for file in files),
        )

    def _check_layout(self, table: DeltaTable | None, layout: Layout | None, *, schema: pa.Schema) -> None:
        column = None if layout is None else layout.column
        if column is not None and (column not in schema.names or schema.field(column).type != pa.string()):
            raise SchemaMismatchError(
                f"{self.uri} cannot be partitioned by {column}, which is not a column of strings."
            )
        stored = column if table is None else partition_column(table)
        if stored != column:
            raise SchemaMismatchError(
                f"{self.uri} is partitioned by {stored or 'no column'}, not by {column or 'none'}.",
                hint="Write it with its own partition column, or under another key.",
            )
