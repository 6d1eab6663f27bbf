"""All raw objects of one family to its canonical table, its quarantine and its ledger."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
import io
from typing import cast

import orjson
import pyarrow as pa

from pixel_pipeline.compute.executor import Executor
from pixel_pipeline.conversations.containers import open_container
from pixel_pipeline.conversations.conversion import CODE_VERSION
from pixel_pipeline.conversations.cutting import cut
from pixel_pipeline.conversations.earlier import with_earlier
from pixel_pipeline.conversations.families import FamilyConfig, FamilyRule
from pixel_pipeline.conversations.ledger import merged_rows
from pixel_pipeline.conversations.schema import CONVERSATION_SCHEMA, LEDGER_SCHEMA, QUARANTINE_SCHEMA
from pixel_pipeline.conversations.source import SourceObject
from pixel_pipeline.conversations.task_results import (
    PART,
    TaskResult,
    forget_results,
    kept_results,
    quarantine_batches,
)
from pixel_pipeline.conversations.task_run import run_task
from pixel_pipeline.conversations.tasks import Piece, Task, plan
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table

TABLE_SCHEMA = CONVERSATION_SCHEMA.append(pa.field(PART, pa.string(), nullable=False))
"""Columns of a canonical table: those of a conversation, and the task that made the row."""


@dataclass(frozen=True)
class FamilyReport:
    """What became of a family's raw objects.

    Attributes:
        version: Digest of the raw objects, rules and code that the table is made of.
        converted: Objects that were read; all others are as they were.
        reused: Nothing had changed, so nothing was done.
        quarantined: Records by error class.
        dropped: Records by reason.
        formats: Conversations by source format.
        repaired: Repairs of text by kind.
    """

    family: str
    table: str
    version: str
    objects: int
    bytes: int
    records_in: int
    records_out: int
    quarantined: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    converted: int = 0
    reused: bool = False


def families_of(
    inventory: pa.Table, *, config: FamilyConfig, bucket: str
) -> dict[str, tuple[FamilyRule, list[SourceObject]]]:
    """Group the raw objects of an inventory by family, both sorted.

    Args:
        inventory: Table of INVENTORY_SCHEMA.
        bucket: Name of the bucket that it lists.
    """
    families: dict[str, tuple[FamilyRule, list[SourceObject]]] = {}
    for key, size, etag in zip(
        *(inventory[name].to_pylist() for name in ("key", "size", "etag")), strict=True
    ):
        rule = config.classify(key)
        source = SourceObject(
            bucket=bucket,
            key=key,
            etag=etag,
            size=size,
            family=rule.family,
            category=rule.category,
            dataset=rule.dataset,
            options=rule.options,
        )
        families.setdefault(rule.family, (FamilyRule(*rule.place), []))[1].append(source)
    return dict(sorted(families.items()))


def convert_family(
    lake: Lake, *, rule: FamilyRule, objects: Sequence[SourceObject], executor: Executor
) -> FamilyReport:
    """Bring a family's canonical table, quarantine and ledger up to date with its raw objects.

    Nothing is read or written when objects, rules and code are those of the last time. Otherwise new and changed objects are
    converted; the rows of the others are taken over, also where they lie in the table of another family. Each of the
    three tables changes in one atomic commit.

    Raises:
        ObjectChangedError: an object is no longer the one that the inventory lists.
    """
    version = fingerprint(
        CODE_VERSION, rule.place, [(source.key, source.etag, source.options) for source in objects]
    )
    table = Table(lake, keys.conversations_table(category=rule.category, dataset=rule.dataset))
    memo = Memo(lake, f"conversations/{rule.family}")
    remembered = memo.recall(version)
    # The memo alone is not enough: someone may have deleted or rewritten the table since.
    if remembered is not None and table.note().get("pixel.version") == version:
        return FamilyReport(**{**remembered, "converted": 0, "reused": True})

    work = _Work(lake, table=table, family=rule.family, recipe=CODE_VERSION, executor=executor)
    results = work.results(objects)
    note = {"pixel.version": version}
    work.commit(results, note=note)
    quarantine = pa.RecordBatchReader.from_batches(
        QUARANTINE_SCHEMA, quarantine_batches(lake.data, rule.family, results)
    )
    ledger = merged_rows(row for result in results for row in result.ledger)
    partition = {"family": rule.family}
    for key, rows in (
        (keys.QUARANTINE, quarantine),
        (keys.LEDGER, pa.Table.from_pylist(ledger, schema=LEDGER_SCHEMA)),
    ):
        Table(lake, key).overwrite(rows, partition_by="family", partition=partition, note=note)

    report = FamilyReport(
        family=rule.family,
        table=table.uri,
        version=version,
        objects=len(objects),
        bytes=sum(source.size for source in objects),
        records_in=sum(row["records_in"] for row in ledger),
        records_out=sum(row["records_out"] for row in ledger),
        quarantined=_sum_counts(row["errors"] for row in ledger),
        dropped=_sum_counts(row["dropped"] for row in ledger),
        formats=_sum_counts(row["formats"] for row in ledger),
        repaired=_sum_counts(row["repaired"] for row in ledger),
        converted=len(work.converted),
    )
    memo.remember(version, asdict(report))
    work.forget()
    return report


def retract_families(lake: Lake, *, present: Collection[FamilyRule]) -> list[str]:
    """Take families that have no raw objects any more out of ledger, quarantine and their tables; returns their names.

    To be called once the others are converted: they take over rows of objects that were theirs.
    """
    ledger = Table(lake, keys.LEDGER)
    if not ledger.exists():
        return []
    recorded = set(ledger.dataset().to_table(columns=["family"])["family"].to_pylist())
    gone = sorted(recorded - {rule.family for rule in present})
    in_use = {keys.conversations_table(category=rule.category, dataset=rule.dataset) for rule in present}
    for family in gone:
        for key in {result.table for result in kept_results(lake.data, family).values()} - in_use:
            table = Table(lake, key)
            table.exchange([], gone=table.parts(), schema=TABLE_SCHEMA, partition_by=PART)
        for key, schema in ((keys.QUARANTINE, QUARANTINE_SCHEMA), (keys.LEDGER, LEDGER_SCHEMA)):
            Table(lake, key).overwrite(
                schema.empty_table(), partition_by="family", partition={"family": family}
            )
        Memo(lake, f"conversations/{family}").forget()
        forget_results(lake.data, family)
    return gone


class _Work:
    """The tasks of one family: which are done, the doing of the others, and the commit of what all came to.

    Attributes:
        converted: Keys of the objects that were read.
    """

    def __init__(self, lake: Lake, *, table: Table, family: str, recipe: str, executor: Executor) -> None:
        self._lake = lake
        self._table = table
        self._family = family
        self._recipe = recipe
        self._executor = executor
        self._parts = table.parts()
        self._kept = kept_results(lake.data, family)
        self._whole: set[str] = set()
        self._seen: set[str] = set()
        self.converted: set[str] = set()

    def results(self, objects: Sequence[SourceObject]) -> list[TaskResult]:
        """The results of all tasks: those that lie there as they are, the others are run."""
        while True:
            tasks = plan(objects, table=self._table.key, recipe=self._recipe, cut=self._cut)
            self._seen |= {task.name for task in tasks}
            results = self._done(tasks)
            unaligned = {place[0] for result in results if result.unaligned for place in result.places}
            if not unaligned:
                return results
            self._whole |= unaligned

    def commit(self, results: list[TaskResult], *, note: dict[str, str]) -> None:
        """Make the files of the results those of the table."""
        files = [file for result in results for file in result.files]
        new = [file.action() for file in files if file.part not in self._parts]
        gone = self._parts - {file.part for file in files}
        # Also where nothing changes, as when a picture came: the note tells what was looked at.
        if new or gone or self._table.note().get("pixel.version") != note["pixel.version"]:
            self._table.exchange(new, gone=gone, schema=TABLE_SCHEMA, partition_by=PART, note=note)

    def forget(self) -> None:
        """Delete results that no task needs. For a while they stay: another family may take their objects over."""
        forget_results(
            self._lake.data,
            self._family,
            but={result.name for result in self._kept.values() if result.fresh} | self._seen,
        )

    def _cut(self, source: SourceObject) -> list[Piece]:
        if source.key in self._whole:
            return [Piece.whole(source)]
        with self._lake.data.open(source.key, etag=source.etag) as stream:
            opening = open_container(source, stream, repaired=Counter()).opening
            # Not through the buffer, which fetches megabytes around each place.
            return cut(source, cast(io.RawIOBase, cast(io.BufferedReader, stream).raw), opening)

    def _done(self, tasks: list[Task]) -> list[TaskResult]:
        files = {item.key for item in self._lake.data.list(self._table.key)}
        results = {}
        for task in tasks:
            kept = self._kept.get(task.name)
            # What is in no table may be vacuumed at any time once it is old; it is made again, the same to the byte.
            if kept is not None and all(
                f"{self._table.key}/{file.path}" in files and (file.part in self._parts or kept.fresh)
                for file in kept.files
            ):
                results[task.name] = kept
        missing = [task for task in tasks if task.name not in results]
        missing = with_earlier(missing, lake=self._lake, family=self._family, kept=self._kept)
        for task, result in zip(missing, self._executor.map(run_task, missing), strict=True):
            results[task.name] = result
            self.converted |= {
                piece.source.key for number, piece in enumerate(task.pieces) if number not in task.earlier
            }
        return [results[task.name] for task in tasks]


def _sum_counts(columns: Iterator[str]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for item in columns:
        total.update(orjson.loads(item))
    return dict(sorted(total.items()))
