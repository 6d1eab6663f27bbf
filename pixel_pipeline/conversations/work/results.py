"""What tasks came to. A result lies in the lake as soon as its task's files do; it is what says that a task is done."""

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
"""Column of the canonical tables: which task made a row. Files are laid out by it."""
FRESH = timedelta(hours=12)
_GETS = 16


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a canonical table.

    Attributes:
        path: Below the table's key.
        size: Bytes.
        statistics: As Delta Lake has them.
        part: Name of the task that made it.
    """

    path: str
    size: int
    statistics: str
    part: str

    def action(self) -> AddAction:
        """What a commit needs."""
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
    """What one task came to.

    Attributes:
        name, table, recipe: The task's.
        places: Of each piece.
        ledger: Row of LEDGER_SCHEMA of each piece, counts of that piece.
        files: Its files.
        quarantined: Rows of its quarantine (`quarantine_of`).
        unaligned: A record is cut where the piece ends: there are no rows, and the object has to be converted whole.
        fresh: Stored so lately that no vacuum may have taken its files, in whatever table they are or are not.
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
        """As `to_json` wrote it."""
        fields = orjson.loads(data) | {"fresh": fresh}
        fields["places"] = [tuple(place) for place in fields["places"]]
        fields["files"] = [DataFile(**file) for file in fields["files"]]
        return cls(**fields)

    def to_json(self) -> bytes:
        """Equal results are equal bytes."""
        fields = asdict(self)
        del fields["fresh"]
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def result_key(family: str, name: str) -> str:
    """Key of a task's result, without suffix."""
    return f"{keys.CONVERSION}/{family}/{name}"


def store_result(bucket: Bucket, family: str, result: TaskResult, quarantine: list[pa.RecordBatch]) -> None:
    """Keep a result. What it names has to lie there already."""
    key = result_key(family, result.name)
    if quarantine:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_batches(quarantine, QUARANTINE_SCHEMA), sink, compression="zstd")
        bucket.put(f"{key}.parquet", sink.getvalue())
    bucket.put(f"{key}.json", result.to_json())


def kept_results(bucket: Bucket, family: str) -> dict[str, TaskResult]:
    """All results that are kept of a family, by task; the newest last."""
    found = [item for item in bucket.list(f"{keys.CONVERSION}/{family}") if item.key.endswith(".json")]
    found.sort(key=lambda item: (item.last_modified, item.key))
    lately = datetime.now(UTC) - FRESH
    with ThreadPoolExecutor(_GETS) as pool:
        contents = pool.map(bucket.get, [item.key for item in found])
        results = [
            TaskResult.of_json(content, fresh=item.last_modified > lately)
            for item, content in zip(found, contents, strict=True)
        ]
    return {result.name: result for result in results}


def quarantine_of(bucket: Bucket, key: str) -> pa.Table:
    """The quarantine rows of a result that has some, by its key without suffix."""
    return pq.read_table(io.BytesIO(bucket.get(f"{key}.parquet")), schema=QUARANTINE_SCHEMA)


def quarantine_batches(
    bucket: Bucket, family: str, results: Iterable[TaskResult]
) -> Iterator[pa.RecordBatch]:
    """The quarantine rows of results, one after the other."""
    for result in results:
        if result.quarantined:
            yield from quarantine_of(bucket, result_key(family, result.name)).to_batches()


def forget_results(bucket: Bucket, family: str, *, but: Collection[str] = ()) -> None:
    """Delete the results of a family, but those of some tasks."""
    stale = [
        item.key
        for item in bucket.list(f"{keys.CONVERSION}/{family}")
        if item.key.rsplit("/", 1)[1].split(".")[0] not in but
    ]
    bucket.delete(stale)
