"""Results of tasks, stored in the lake after the task's files. A stored result means that the task is done."""

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
import io
import time
from typing import Any

from deltalake.transaction import AddAction
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pixel_pipeline.conversations.model.schema import QUARANTINE_SCHEMA
from pixel_pipeline.conversations.work.plan import Place
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.s3.bucket import Bucket

PART = "part"
"""Column of the canonical tables: the task that made the row. Files are partitioned by it."""
FRESH = timedelta(hours=12)
_GETS = 16


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a canonical table.

    Attributes:
        path: Relative to the table's key.
        size: Bytes.
        statistics: JSON, in the format of Delta Lake.
        part: Name of the task that wrote it.
    """

    path: str
    size: int
    statistics: str
    part: str

    def action(self) -> AddAction:
        """Return the add action of a commit."""
        return AddAction(
            path=self.path,
            size=self.size,
            partition_values={PART: self.part},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=self.statistics,
        )


@dataclass(frozen=True)
class TaskResult:
    """The result of one task.

    Attributes:
        name, table, recipe: The task's.
        places: One per piece.
        ledger: One row of LEDGER_SCHEMA per piece, with the counts of that piece.
        quarantined: Number of its quarantine rows (`quarantine_of`).
        unaligned: A piece ends inside a record. There are no rows; the object has to be converted whole.
        fresh: Stored less than FRESH ago, so that no vacuum has removed its files even if no table refers to them.
    """

    name: str
    table: str
    recipe: str
    places: list[Place]
    ledger: list[dict[str, Any]]
    files: list[DataFile]
    quarantined: int
    unaligned: bool = False
    fresh: bool = False

    @classmethod
    def of_json(cls, data: bytes, *, fresh: bool) -> "TaskResult":
        """Parse the output of `to_json`."""
        fields = orjson.loads(data) | {"fresh": fresh}
        fields["places"] = [tuple(place) for place in fields["places"]]
        fields["files"] = [DataFile(**file) for file in fields["files"]]
        return cls(**fields)

    def to_json(self) -> bytes:
        """Serialize; equal results give equal bytes."""
        fields = asdict(self)
        del fields["fresh"]
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def result_key(family: str, name: str) -> str:
    """Key of a task's result, without suffix."""
    return f"{keys.CONVERSION}/{family}/{name}"


def store_result(bucket: Bucket, family: str, result: TaskResult, quarantine: list[pa.RecordBatch]) -> None:
    """Store a result. Its files must already be stored."""
    key = result_key(family, result.name)
    if quarantine:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_batches(quarantine, QUARANTINE_SCHEMA), sink, compression="zstd")
        bucket.put(f"{key}.parquet", sink.getvalue())
    bucket.put(f"{key}.json", result.to_json())


def kept_results(bucket: Bucket, family: str) -> dict[str, TaskResult]:
    """All stored results of a family by task name, oldest first."""
    found = [item for item in bucket.list(f"{keys.CONVERSION}/{family}") if item.key.endswith(".json")]
    found.sort(key=lambda item: (item.last_modified, item.key))
    fresh_since = datetime.now(UTC) - FRESH
    with ThreadPoolExecutor(_GETS) as pool:
        contents = pool.map(bucket.get, [item.key for item in found])
        results = [
            TaskResult.of_json(content, fresh=item.last_modified > fresh_since)
            for item, content in zip(found, contents, strict=True)
        ]
    return {result.name: result for result in results}


def quarantine_of(bucket: Bucket, key: str) -> pa.Table:
    """Quarantine rows of a result that has any.

    Args:
        key: The result's key, without suffix.
    """
    return pq.read_table(io.BytesIO(bucket.get(f"{key}.parquet")), schema=QUARANTINE_SCHEMA)


def quarantine_batches(
    bucket: Bucket, family: str, results: Iterable[TaskResult]
) -> Iterator[pa.RecordBatch]:
    """Quarantine rows of all results, in their order."""
    for result in results:
        if result.quarantined:
            yield from quarantine_of(bucket, result_key(family, result.name)).to_batches()


def delete_results(bucket: Bucket, family: str, *, keep: Collection[str] = ()) -> None:
    """Delete a family's results, except those of the given tasks."""
    stale = [
        item.key
        for item in bucket.list(f"{keys.CONVERSION}/{family}")
        if item.key.rsplit("/", 1)[1].split(".")[0] not in keep
    ]
    bucket.delete(stale)
