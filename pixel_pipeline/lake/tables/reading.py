"""Reading of Delta tables: lazily, by column and row, at any version."""

from urllib.parse import unquote

from deltalake import DeltaTable
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectCorruptError
from pixel_pipeline.lake.tables.dataset import TableFile, dataset_of, in_partition
from pixel_pipeline.lake.tables.log import (
    TableLog,
    VersionGoneError,
    files_of,
    partition_column,
    partitions_of,
    schema_of,
)


class TableReader:
    """The reading half of `Table`."""

    def __init__(self, lake: Lake, key: str) -> None:
        self.lake = lake
        self.key = key
        self.log = TableLog(lake, key)

    @property
    def uri(self) -> str:
        """The table as `s3://bucket/key`."""
        return self.lake.data.uri(self.key)

    def exists(self) -> bool:
        """True after the first commit."""
        # Not by delta-rs, which holds the interpreter's lock while the endpoint is silent.
        return next(self.lake.data.list(f"{self.key}/_delta_log"), None) is not None

    def version(self) -> int:
        """Return the number of the newest commit. Raises TableMissingError."""
        version: int = self.open().version()
        return version

    def open(self, *, version: int | None = None) -> DeltaTable:
        """Return the Delta table at its newest or a given version. Raises TableMissingError, VersionGoneError."""
        return self.log.open(version=version)

    def note(self) -> dict[str, str]:
        """Return the note of the newest write; empty if it has none or there is no table."""
        return self.log.note()

    def row_count(self) -> int:
        """Return the number of rows at the newest version, from the log."""
        files = pa.table(self.open().get_add_actions())
        return pc.sum(files["num_records"]).as_py() or 0

    def dataset(self, *, version: int | None = None) -> ds.Dataset:
        """Return a lazily read Arrow dataset, to be read by its `to_table`, `scanner` or `to_batches`.

        Rows of one write keep their order; those of a partitioned table come partition by partition.

        Raises:
            TableMissingError: there is no table.
            VersionGoneError: the version never existed, or was vacuumed.
        """
        table = self.open(version=version)
        schema = schema_of(table)
        sizes = dict(files_of(table))
        with self.log.translated("open"):
            # delta-rs's dataset only contributes the expressions that are true of each file's rows.
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
        """Read rows and columns of the table.

        Raises:
            ObjectCorruptError: a file's bytes differ from those that were written.
            TableMissingError, VersionGoneError: as `dataset`.
        """
        return self.scan(self.dataset(version=version), columns=columns, filter=filter)

    def added_since(self, version: int, *, columns: list[str] | None = None) -> pa.Table:
        """Read only the files that commits after a version added, in the order of the commits.

        Includes rows that a later commit removed.

        Args:
            version: Last commit seen; -1 for all.
            columns: Columns to read; all by default.

        Raises:
            TableMissingError: there is no table.
            VersionGoneError: entries of the log or files are already deleted.
        """
        table = self.open()
        gone = VersionGoneError(
            f"Some rows added to {self.uri} since version {version} are already deleted.",
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

    def parts(self) -> set[str]:
        """Return the values of the partition column at the newest version; empty without table or column."""
        table = self.log.newest()
        column = None if table is None else partition_column(table)
        return set() if table is None or column is None else partitions_of(table, column)
