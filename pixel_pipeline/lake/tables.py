"""Delta tables in the data bucket: written whole in one atomic commit, opened lazily."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
import pyarrow as pa
import pyarrow.dataset as ds

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.errors import LakeWriteError
from pixel_pipeline.lake.store import Lake

# Conversation text hardly repeats within a page: a dictionary for it costs time and gains no space.
WRITER = WriterProperties(compression="ZSTD", compression_level=3)
MAX_COMMIT_RETRIES = 50


class TableMissingError(PixelError):
    """No table lies at the key yet."""


class Table:
    """One Delta table, by its key in the data bucket.

    A write becomes visible in one commit or not at all: data files first, then the log entry. What a killed writer
    leaves behind is garbage that no reader sees.
    """

    def __init__(self, lake: Lake, key: str) -> None:
        self.lake = lake
        self.key = key

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
        """The Delta table itself, at its newest or a given version. Raises TableMissingError."""
        with self._translated("open"):
            return DeltaTable(self.uri, version=version, storage_options=self.lake.storage_options())

    def dataset(self, *, version: int | None = None) -> ds.Dataset:
        """A lazily read Arrow dataset: columns and rows are chosen by its `to_table`, `scanner` or `to_batches`."""
        return self.open(version=version).to_pyarrow_dataset()

    def overwrite(
        self,
        data: pa.Table | pa.RecordBatchReader,
        *,
        partition_by: str | None = None,
        partition: Mapping[str, str] | None = None,
        note: Mapping[str, str] | None = None,
    ) -> int:
        """Replace the table, or one partition of it, in one commit.

        Args:
            data: All rows of the table or, with `partition`, all rows of that partition.
            partition_by: Column by whose values files are laid out; needed where `partition` is given.
            partition: `{column: value}` of the rows to replace.
            note: Kept in the commit's metadata. No conversation text, no secrets.

        Returns:
            The new version.
        """
        predicate = None
        if partition is not None:
            predicate = " AND ".join(
                f"{column} = '{value.replace(chr(39), 2 * chr(39))}'" for column, value in partition.items()
            )
            if not self.exists():
                # A first commit can replace no partition, and of several writers' first commits all but one would fail.
                self._create(data.schema, partition_by=partition_by)
        source = _Source(data) if isinstance(data, pa.RecordBatchReader) else None
        with self._translated("write", source=source):
            write_deltalake(
                self.uri,
                data if source is None else source.reader(),
                mode="overwrite",
                predicate=predicate,
                partition_by=[partition_by] if partition_by else None,
                schema_mode=None if partition is not None else "overwrite",
                storage_options=self.lake.storage_options(),
                writer_properties=WRITER,
                commit_properties=CommitProperties(
                    custom_metadata=dict(note or {}), max_commit_retries=MAX_COMMIT_RETRIES
                ),
            )
        return self.version()

    def _create(self, schema: pa.Schema, *, partition_by: str | None) -> None:
        """An empty table, unless another process creates it just now."""
        with self._translated("create"):
            try:
                DeltaTable.create(
                    self.uri,
                    schema,
                    mode="ignore",
                    partition_by=[partition_by] if partition_by else None,
                    storage_options=self.lake.storage_options(),
                    # A retry would commit the schema once more, behind the winner's, and break writes under way.
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            except DeltaError:
                if not self.exists():
                    raise

    def note(self) -> dict[str, str]:
        """What the newest commit's writer noted; empty where it noted nothing or there is no table."""
        try:
            commit = self.open().history(1)[0]
        except TableMissingError:
            return {}
        return {name: str(value) for name, value in commit.items() if name.startswith("pixel.")}

    def row_count(self) -> int:
        """Rows at the newest version, from file statistics."""
        rows: int = self.dataset().count_rows()
        return rows

    @contextmanager
    def _translated(self, operation: str, *, source: "_Source | None" = None) -> Iterator[None]:
        try:
            yield
        except TableNotFoundError:
            raise TableMissingError(f"There is no table {self.uri} yet.") from None
        except (DeltaError, OSError) as error:
            if source is not None and source.error is not None:
                raise source.error from None
            # A listing through our own client finds out whether it is the endpoint, the key or the bucket, and says so.
            self.lake.data.check()
            raise LakeWriteError(
                f"Could not {operation} table {self.uri} ({type(error).__name__}).",
                hint="Check the server's free disk space and its log, then run again; nothing half-written is visible.",
            ) from None


class _Source:
    """Batches on their way into delta-rs, which reports an error of theirs as its own and loses what it was."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader = reader
        self.error: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._reader.schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._reader
        except BaseException as error:
            self.error = error
            raise
