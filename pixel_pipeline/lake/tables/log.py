"""The log of a Delta table: the files of each version, and commits that count exactly once or not at all."""

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
# Opening a table reads the log entries since the last checkpoint one by one.
CONFIGURATION = {"delta.checkpointInterval": "10"}
# Commits that bring rows; others only clean up.
ROW_OPERATIONS = {"CREATE TABLE", "WRITE"}


class TableMissingError(PixelError):
    """There is no table at the key yet."""


class VersionGoneError(PixelError):
    """A version of a table that never existed, or that was vacuumed."""


@dataclass(frozen=True)
class Change:
    """What a commit changes, in addition to the files it adds.

    Attributes:
        schema: Columns after the commit.
        mode: "overwrite" removes rows: all, or those selected by `filters` as `(column, "in", values)`. "renew" removes all and
            changes the table's partition column to that of the commit.
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
        """Open the table at its newest or a given version. Raises TableMissingError, VersionGoneError."""
        with self.translated("open"):
            table = DeltaTable(self._uri, storage_options=self._lake.storage_options())
        if version is not None and version != table.version():
            self._go_back(table, version)
        return table

    def newest(self) -> DeltaTable | None:
        """Open the table at its newest version, or return None if there is none."""
        try:
            return self.open()
        except TableMissingError:
            return None

    def entry(self, version: int) -> list[dict[str, Any]] | None:
        """Return the actions of one commit, or None if the log does not contain it."""
        try:
            lines = self._lake.data.get(f"{self._key}/_delta_log/{version:020}.json").splitlines()
            return [orjson.loads(line) for line in lines if line]
        except ObjectNotFoundError:
            return None
        except orjson.JSONDecodeError as error:
            raise self.failure("read", error) from None

    def note(self) -> dict[str, str]:
        """Return the note of the newest commit that brought rows; empty without one."""
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
        """Add stored files to the table, on top of everything committed meanwhile, and return the version.

        After a failed attempt the log shows whether the commit exists: its response may have been lost.

        Args:
            files: Files below the key.
            schema: Their columns, with those of `partition_by`; also the columns of a new table.
            change: Returns the other changes to the newest version. Called again for each attempt.
            note: Metadata of the log entry.
        """
        transaction = uuid.uuid4().hex
        # Without retries of delta-rs, which mistakes its own commit, if the response was lost, for another writer's.
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
        """Return the version that a transaction committed, if it did, and the newest version."""
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
                f"There is no version {version} of {self._uri}.",
                hint=f"Versions {oldest} to {newest} can be read. Vacuum deletes older ones.",
            )

    @contextmanager
    def translated(self, operation: str) -> Iterator[None]:
        """Raise errors of delta-rs inside the block as PixelErrors."""
        try:
            yield
        except TableNotFoundError:
            raise TableMissingError(f"There is no table {self._uri} yet.") from None
        except (DeltaError, OSError) as error:
            raise self.failure(operation, error) from None

    def failure(self, operation: str, error: Exception) -> LakeWriteError:
        # A listing through our own client raises the precise error if endpoint, credentials or bucket are wrong.
        self._lake.data.check()
        return LakeWriteError(
            f"Could not {operation} table {self._uri} ({type(error).__name__}).",
            hint="Check the server's free disk space and its log, then run again; nothing half-written is visible.",
        )


def files_of(table: DeltaTable) -> list[tuple[str, int]]:
    """Return path below the table's key and size in bytes of every file of a version."""
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
    """Add a schema's new columns to a table; True if there were any. Existing rows read null.

    A separate commit, because delta-rs changes the schema only in an overwrite.
    """
    new = list(schema)[len(table.schema().fields) :]
    if new:
        table.alter.add_columns(
            DeltaSchema.from_arrow(pa.schema(new)).fields,
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    return bool(new)
