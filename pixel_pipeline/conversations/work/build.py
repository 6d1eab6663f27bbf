"""Converts all raw objects of a family into its canonical table, quarantine and ledger."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import orjson
import pyarrow as pa

from pixel_pipeline.compute.executor import Executor
from pixel_pipeline.conversations.convert.ledger import merged_rows
from pixel_pipeline.conversations.families.config import FamilyConfig, FamilyRule
from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline.conversations.model.schema import LEDGER_SCHEMA, QUARANTINE_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.quarantine.reading import Count, Selection, counts
from pixel_pipeline.conversations.work.family import FamilyWork, remove_files
from pixel_pipeline.conversations.work.results import delete_results, kept_results, quarantine_batches
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.tables.table import Table


@dataclass(frozen=True)
class FamilyReport:
    """The outcome of converting a family.

    Attributes:
        version: Digest of the raw objects, rules and recipe that the table is made from.
        converted: Objects that were read; the rows of all others were reused.
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
        bucket: Name of the listed bucket.
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
    lake: Lake,
    *,
    rule: FamilyRule,
    objects: Sequence[SourceObject],
    executor: Executor,
    again: Collection[str] | None = None,
) -> FamilyReport:
    """Bring a family's canonical table, quarantine and ledger up to date with its raw objects.

    Reads and writes nothing if objects, rules and recipe are unchanged. Otherwise converts new and changed objects, and reuses
    the rows of the others, even from the table of another family. Each of the three tables changes in one atomic commit.

    Args:
        again: Keys of objects to convert again. If given, all other objects keep their rows, even if another recipe or other
            options made them, and count as converted by the present ones.

    Raises:
        ObjectChangedError: an object was replaced since the inventory was taken.
    """
    version = fingerprint(
        RECIPE_VERSION, rule.place, [(source.key, source.etag, source.options) for source in objects]
    )
    table = Table(lake, keys.conversations_table(category=rule.category, dataset=rule.dataset))
    memo = Memo(lake, f"conversations/{rule.family}")
    remembered = memo.recall(version)
    # The memo alone is not enough: the table may have been deleted or rewritten since.
    if remembered is not None and table.note().get("pixel.version") == version:
        return FamilyReport(**{**remembered, "converted": 0, "reused": True})

    work = FamilyWork(
        lake, table=table, family=rule.family, recipe=RECIPE_VERSION, executor=executor, again=again
    )
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
    work.delete_stale_results()
    return report


def replay_quarantine(
    lake: Lake, *, config: FamilyConfig, executor: Executor, selection: Selection
) -> Iterator[tuple[FamilyReport, int, int]]:
    """Convert objects with quarantined records again, after a correction of the recipe or of families.yaml.

    All other objects keep their rows, so the next conversion does not read them either. Skips families without a selected
    record, unless everything is selected.

    Yields:
        Each family's report, and the number of selected records in its quarantine before and after.
    """
    inventory = Table(lake, keys.INVENTORY).read(columns=["key", "size", "etag"])
    families = families_of(inventory, config=config, bucket=lake.data.name)
    before = [*counts(lake, selection)]
    records = _records_by_family(before)
    again = {count.source_key for count in before}
    for family, (rule, objects) in families.items():
        if family in records or selection == Selection():
            report = convert_family(lake, rule=rule, objects=objects, executor=executor, again=again)
            yield report, records[family], _records_by_family(counts(lake, selection))[family]


def _records_by_family(found: Iterable[Count]) -> Counter[str]:
    records: Counter[str] = Counter()
    for count in found:
        records[count.family] += count.records
    return records


def retract_families(lake: Lake, *, present: Collection[FamilyRule]) -> list[str]:
    """Remove families without raw objects from ledger, quarantine and their tables; return their names.

    Call it after the other families are converted: they reuse rows of objects that have moved to them.
    """
    ledger = Table(lake, keys.LEDGER)
    if not ledger.exists():
        return []
    recorded = set(ledger.dataset().to_table(columns=["family"])["family"].to_pylist())
    gone = sorted(recorded - {rule.family for rule in present})
    for family in gone:
        remove_files(lake, kept_results(lake.data, family).values())
        for key, schema in ((keys.QUARANTINE, QUARANTINE_SCHEMA), (keys.LEDGER, LEDGER_SCHEMA)):
            Table(lake, key).overwrite(
                schema.empty_table(), partition_by="family", partition={"family": family}
            )
        Memo(lake, f"conversations/{family}").forget()
        delete_results(lake.data, family)
    return gone


def _sum_counts(columns: Iterator[str]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for item in columns:
        total.update(orjson.loads(item))
    return dict(sorted(total.items()))
