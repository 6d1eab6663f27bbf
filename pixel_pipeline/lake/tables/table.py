"""Delta tables in the data bucket: every change is one atomic commit, opened lazily, old versions stay readable."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote
import uuid

from deltalake import DeltaTable
from deltalake.transaction import AddAction
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectCorruptError
from pixel_pipeline.lake.tables.files import Layout, write_files
from pixel_pipeline.lake.tables.log import (
    Change,
    TableLog,
    TableMissingError,
    VersionGoneError,
    files_of,
    partition_column,
    partitions_of,
    schema_of,
)
from pixel_pipeline.lake.tables.reading import TableFile, dataset_of, in_partition
from pixel_pipeline.lake.tables.schema import SchemaMismatchError, cast_batches, evolved, storable

__all__ = ["Commit", "Table", "TableMissingError", "VersionGoneError"]


@dataclass(frozen=True)
class Commit:
    """What a write came to.

    Attributes:
        version: Number of the commit.
        rows: Rows written.
        files: Files written.
        bytes: Their size together.
    """

    version: int
    rows: int
    files: int
    bytes: int


class Table:
    """One Delta table, by its key in the data bucket.

    A write becomes visible in one commit or not at all: data files first, then the log entry. What a killed writer leaves
    behind is garbage that no reader sees, until it is vacuumed. Writers of one table follow one another: whoever commits
    second builds on the first. Of two that replace the same partition, the later one's rows stay.
    """

    def __init__(self, lake: Lake, key: str) -> None:
        self.lake = lake
        self.key = key
        self.log = TableLog(lake, key)

    @property
    def uri(self) -> str:
        """`s3://bucket/key`."""
        return self.lake.data.uri(self.key)

    def exists(self) -> bool:
        """True once a first commit was made."""
        # Not delta-rs's own question: that holds the interpreter's lock for as long as the endpoint is silent.
        return next(self.lake.data.list(f"{self.key}/_delta_log"), None) is not None

    def version(self) -> int:
        """Number of the newest commit. Raises TableMissingError."""
        version: int = self.open().version()
        return version

    def open(self, *, version: int | None = None) -> DeltaTable:
        """The Delta table itself, at its newest or a given version. Raises TableMissingError, VersionGoneError."""
        return self.log.open(version=version)

    def note(self) -> dict[str, str]:
        """What the newest writer noted; empty where it noted nothing or there is no table."""
        return self.log.note()

    def row_count(self) -> int:
        """Rows at the newest version, from the log."""
        files = pa.table(self.open().get_add_actions())
        return pc.sum(files["num_records"]).as_py() or 0

    def dataset(self, *, version: int | None = None) -> ds.Dataset:
        """A lazily read Arrow dataset: columns and rows are chosen by its `to_table`, `scanner` or `to_batches`.

        Rows of one write come in the order in which they were written, those of a partitioned table partition by partition.

        Raises:
            TableMissingError: there is no table.
            VersionGoneError: the version never was, or was vacuumed.
        """
        table = self.open(version=version)
        schema = schema_of(table)
        sizes = dict(files_of(table))
        with self.log.translated("open"):
            # Only what is true of a file's rows is taken from delta-rs's dataset.
            files = [
                TableFile(file.path, sizes[file.path], file.partition_expression)
                for file in table.to_pyarrow_dataset(schema=schema).get_fragments()
            ]
        files.sort(key=lambda file: file.path)
        return dataset_of(files, schema=schema, bucket=self.lake.data, key=self.key)

    def read(
        self,
        *,
        columns: list[str] | None = None,
        filter: ds.Expression | None = None,
        version: int | None = None,
    ) -> pa.Table:
        """Rows and columns of the table; what is not asked for is not read.

        Raises:
            ObjectCorruptError: bytes of a file are not those that were written.
            TableMissingError, VersionGoneError: as `dataset`.
        """
        return self.scan(self.dataset(version=version), columns=columns, filter=filter)

    def added_since(self, version: int, *, columns: list[str] | None = None) -> pa.Table:
        """Rows of the files that commits after a version added, in the order of the commits; no other file is read.

        Rows that a later commit took away again are among them.

        Args:
            version: Last commit seen; -1 for all.
            columns: Columns to read; all by default.

        Raises:
            TableMissingError: there is no table.
            VersionGoneError: log or files do not reach back that far.
        """
        table = self.open()
        gone = VersionGoneError(
            f"What was added to {self.uri} since version {version} is no longer all there.",
            hint="Read the whole table.",
        )
        added = []
        for number in range(version + 1, table.version() + 1):
            entry = self.log.entry(number)
            if entry is None:
                raise gone
            added += [action["add"] for action in entry if "add" in action and action["add"]["dataChange"]]
        files = [
            TableFile(unquote(file["path"]), file["size"], in_partition(file["partitionValues"]))
            for file in added
        ]
        dataset = dataset_of(files, schema=schema_of(table), bucket=self.lake.data, key=self.key)
        try:
            return self.scan(dataset, columns=columns)
        except VersionGoneError:
            raise gone from None

    def scan(
        self,
        dataset: ds.Dataset,
        *,
        columns: list[str] | None,
        filter: ds.Expression | None = None,
    ) -> pa.Table:
        """Read rows of a dataset of this table. Raises ObjectCorruptError, VersionGoneError."""
        try:
            rows: pa.Table = dataset.to_table(columns=columns, filter=filter)
        except (OSError, pa.ArrowInvalid) as error:
            if "CRC" in str(error):
                raise ObjectCorruptError(
                    f"A file of table {self.uri} no longer holds the bytes that were written.",
                    hint="Materialize the table again, or read an older version of it.",
                ) from None
            # Looked up: depending on the server, Arrow reports a missing object as an internal error of its own.
            files = getattr(dataset, "files", ())
            if isinstance(error, FileNotFoundError) or not all(
                self.lake.data.exists(f"{self.key}/{path}") for path in files
            ):
                raise VersionGoneError(
                    f"A file of the version of {self.uri} that was opened is gone.",
                    hint="Open the table again: the version was vacuumed meanwhile.",
                ) from None
            if isinstance(error, OSError):
                raise self.log.failure("read", error) from None
            raise
        return rows

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
            data: All rows of the table or, with `partition`, all rows of these partitions. A stream is read once and never
                held as a whole. An error of the stream is raised as it is, and nothing changes.
            partition_by: Column of strings by whose values files are laid out, for the life of the table.
            partition: `{column: value}` or `{column: values}` of the rows to replace. One that no row comes for is emptied.
            note: Kept in the commit's metadata, names beginning with "pixel.". No conversation text, no secrets.
            schema: "evolve" keeps the table's columns and adds new ones (`table_schema.evolved`); "replace" takes those of
                `data`. By default a whole table is replaced with its schema, and partitions evolve.

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
        """Add rows in one commit, creating the table where there is none. New nullable columns are added to it.

        Raises:
            SchemaMismatchError: columns that the table cannot have.
        """

        def change(table: DeltaTable, written: pa.Schema) -> Change:
            return Change(schema=evolved(schema_of(table), written), mode="append")

        return self._write(rows, layout=None, evolve=True, change=change, note=note)

    def parts(self) -> set[str]:
        """Values of the column that the table is laid out by, as the newest version has them; empty where there is none."""
        table = self.log.newest()
        column = None if table is None else partition_column(table)
        return set() if table is None or column is None else partitions_of(table, column)

    def exchange(
        self,
        files: Sequence[AddAction],
        *,
        gone: Collection[str],
        schema: pa.Schema,
        partition_by: str,
        note: Mapping[str, str] | None = None,
    ) -> int:
        """Make files that lie below the key part of the table, and take partitions out of it, in one commit.

        A table that is laid out in another way, or has other columns, is replaced as a whole.

        Args:
            files: What `write_files` returned for a Part each; none of a partition that is in the table and not in `gone`.
            gone: Values of `partition_by` whose rows go.
            schema: Columns of the table, `partition_by` among them.

        Returns:
            The version.
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
        """Files first, then the commit that names them."""
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
            # No two writers ever put the same object, whatever they write.
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
                f"{self.uri} is laid out by {column}, which has to be a column of strings."
            )
        stored = column if table is None else partition_column(table)
        if stored != column:
            raise SchemaMismatchError(
                f"{self.uri} is laid out by {stored or 'no column'}, not by {column or 'none'}.",
                hint="Write it as it is laid out, or under another key.",
            )
