"""The log of a Delta table: which files make up a version, and commits that count once or not at all."""

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import random
import time
from typing import Any, Literal
from urllib.parse import unquote
import uuid

from deltalake import CommitProperties, DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import LakeWriteError, ObjectNotFoundError

MAX_CONFLICTS = 50
MAX_FAILURES = 3
# Whoever opens a table reads the log entries since the last checkpoint one by one.
CONFIGURATION = {"delta.checkpointInterval": "10"}
# Commits that come with rows; others only tidy up.
ROW_OPERATIONS = {"CREATE TABLE", "WRITE"}


class TableMissingError(PixelError):
    """No table lies at the key yet."""


class VersionGoneError(PixelError):
    """A version of a table that never was, or that was vacuumed."""


@dataclass(frozen=True)
class Change:
    """What a commit does beside adding files.

    Attributes:
        schema: Columns from then on.
        mode: "overwrite" takes rows away: all, or those that `filters` names as `(column, "in", values)`. "renew" takes all
            away and lays the table out anew, by the partitions of the commit.
    """

    schema: pa.Schema
    mode: Literal["append", "overwrite", "renew"]
    filters: list[tuple[str, str, list[str]]] | None = None


class TableLog:
    """The log of one table, by its key in the data bucket."""

    def __init__(self, lake: Lake, key: str) -> None:
        self._lake = lake
        self._key = key
        self._uri = lake.data.uri(key)

    def open(self, *, version: int | None = None) -> DeltaTable:
        """The table at its newest or a given version. Raises TableMissingError, VersionGoneError."""
        with self.translated("open"):
            table = DeltaTable(self._uri, storage_options=self._lake.storage_options())
        if version is not None and version != table.version():
            self._go_back(table, version)
        return table

    def newest(self) -> DeltaTable | None:
        """The table at its newest version, or None where there is none."""
        try:
            return self.open()
        except TableMissingError:
            return None

    def entry(self, version: int) -> list[dict[str, Any]] | None:
        """The actions of one commit; None where the log does not hold it."""
        try:
            lines = self._lake.data.get(f"{self._key}/_delta_log/{version:020}.json").splitlines()
            return [orjson.loads(line) for line in lines if line]
        except ObjectNotFoundError:
            return None
        except orjson.JSONDecodeError as error:
            raise self.failure("read", error) from None

    def note(self) -> dict[str, str]:
        """What the newest commit that brought rows says of itself; empty where there is none."""
        table = self.newest()
        if table is None:
            return {}
        with self.translated("read"):
            commits = table.history(100)
        newest = next((commit for commit in commits if commit.get("operation") in ROW_OPERATIONS), {})
        return {name: str(value) for name, value in newest.items() if name.startswith("pixel.")}

    def commit(
        self,
        files: Sequence[AddAction],
        *,
        schema: pa.Schema,
        partition_by: list[str],
        change: Callable[[DeltaTable], Change],
        note: Mapping[str, str],
    ) -> int:
        """Make files part of the table, on top of whatever others committed meanwhile; returns the version.

        delta-rs tries one version at a time and resolves nothing by itself. What became of a try that failed is read in the
        log: its answer may have been lost on the way, and then the commit is there.

        Args:
            files: Files that lie below the key already.
            schema: Their columns, with those of `partition_by`. A table that is not there yet begins with them.
            change: What else to do to the newest version. Asked anew for each try.
            note: Goes into the log entry.
        """
        transaction = uuid.uuid4().hex
        # Our own loop tries again: theirs takes a commit whose answer was lost for another writer's.
        once = CommitProperties(custom_metadata={"txnId": transaction, **note}, max_commit_retries=0)
        failures = conflicts = 0
        self._lake.data.require_conditional_writes()
        while True:
            table = self.newest()
            base = -1 if table is None else int(table.version())
            try:
                made = None if table is None else change(table)
                if table is None or made is None or made.mode == "renew":
                    create_table_with_add_actions(
                        self._uri,
                        DeltaSchema.from_arrow(schema),
                        list(files),
                        mode="error" if table is None else "overwrite",
                        partition_by=partition_by,
                        configuration=CONFIGURATION,
                        storage_options=self._lake.storage_options(),
                        commit_properties=once,
                    )
                    return base + 1
                if made.mode == "append" and _add_columns(table, made.schema):
                    continue
                table.create_write_transaction(
                    list(files),
                    made.mode,
                    made.schema,
                    partition_by,
                    made.filters,
                    commit_properties=once,
                )
                return base + 1
            except (DeltaError, OSError) as error:
                found, newest = self._find(transaction, after=base)
                if found is not None:
                    return found
                conflicts, failures = conflicts + (newest > base), failures + (newest == base)
                if conflicts > MAX_CONFLICTS or failures == MAX_FAILURES:
                    raise self.failure("write", error) from None
            time.sleep(0.2 * 2**failures * random.random())

    def _find(self, transaction: str, *, after: int) -> tuple[int | None, int]:
        """The version that a transaction made, if it did, and the newest one."""
        version = after
        while (entry := self.entry(version + 1)) is not None:
            version += 1
            if any(action.get("commitInfo", {}).get("txnId") == transaction for action in entry):
                return version, version
        return None, version

    def _go_back(self, table: DeltaTable, version: int) -> None:
        newest = table.version()
        present = {item.key for item in self._lake.data.list(self._key)}

        def readable(number: int) -> bool:
            try:
                table.load_as_version(number)
            except DeltaError:
                return False
            return all(f"{self._key}/{path}" in present for path, _ in files_of(table))

        if not 0 <= version <= newest or not readable(version):
            oldest = bisect.bisect_left(range(newest), True, key=readable)
            raise VersionGoneError(
                f"Version {version} of {self._uri} is not there.",
                hint=f"Versions {oldest} to {newest} can be read. Older ones go by vacuum.",
            )

    @contextmanager
    def translated(self, operation: str) -> Iterator[None]:
        """Errors of delta-rs inside the block, in our own words."""
        try:
            yield
        except TableNotFoundError:
            raise TableMissingError(f"There is no table {self._uri} yet.") from None
        except (DeltaError, OSError) as error:
            raise self.failure(operation, error) from None

    def failure(self, operation: str, error: Exception) -> LakeWriteError:
        # A listing through our own client finds out whether it is the endpoint, the key or the bucket, and says so.
        self._lake.data.check()
        return LakeWriteError(
            f"Could not {operation} table {self._uri} ({type(error).__name__}).",
            hint="Check the server's free disk space and its log, then run again; nothing half-written is visible.",
        )


def files_of(table: DeltaTable) -> list[tuple[str, int]]:
    """Path below the table's key and size in bytes of every file of a version."""
    added = pa.table(table.get_add_actions())
    paths, sizes = added["path"].to_pylist(), added["size_bytes"].to_pylist()
    return [(unquote(path), size) for path, size in zip(paths, sizes, strict=True)]


def schema_of(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema().to_arrow())


def partition_column(table: DeltaTable) -> str | None:
    """Column that the table is partitioned by."""
    columns = table.metadata().partition_columns
    return str(columns[0]) if columns else None


def partitions_of(table: DeltaTable, column: str) -> set[str]:
    """Values of the partition column at a version."""
    added = pa.table(table.get_add_actions())
    return set(pc.unique(pc.struct_field(added["partition"], column)).to_pylist()) if len(added) else set()


def _add_columns(table: DeltaTable, schema: pa.Schema) -> bool:
    """Bring a table's columns up to a schema that ends in new ones; True if there were any.

    A commit of its own, for only an overwrite can bring columns along. It changes no row: they read null.
    """
    new = list(schema)[len(table.schema().fields) :]
    if new:
        table.alter.add_columns(
            DeltaSchema.from_arrow(pa.schema(new)).fields,
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    return bool(new)
