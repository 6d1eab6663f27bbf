"""All raw objects of one family to its canonical table, its quarantine and its ledger."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import orjson
import pyarrow as pa

from pixel_pipeline.compute.executor import Executor
from pixel_pipeline.conversations.convert.ledger import merged_rows
from pixel_pipeline.conversations.families.config import FamilyConfig, FamilyRule
from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline.conversations.model.schema import LEDGER_SCHEMA, QUARANTINE_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.quarantine.reading import Wanted, counts
from pixel_pipeline.conversations.work.family import FamilyWork, leave_tables
from pixel_pipeline.conversations.work.results import forget_results, kept_results, quarantine_batches
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.tables.table import Table


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
    lake: Lake,
    *,
    rule: FamilyRule,
    objects: Sequence[SourceObject],
    executor: Executor,
    replay: Wanted | None = None,
) -> FamilyReport:
    """Bring a family's canonical table, quarantine and ledger up to date with its raw objects.

    Nothing is read or written when objects, rules and code are those of the last time. Otherwise new and changed objects are
    converted; the rows of the others are taken over, also where they lie in the table of another family. Each of the
    three tables changes in one atomic commit.

    Args:
        replay: Of what was converted by other code or options, convert only this again, of the quarantine. All else stays as
            it is, and counts as converted by the present ones.

    Raises:
        ObjectChangedError: an object is no longer the one that the inventory lists.
    """
    version = fingerprint(
        RECIPE_VERSION, rule.place, [(source.key, source.etag, source.options) for source in objects]
    )
    table = Table(lake, keys.conversations_table(category=rule.category, dataset=rule.dataset))
    memo = Memo(lake, f"conversations/{rule.family}")
    remembered = memo.recall(version)
    # The memo alone is not enough: someone may have deleted or rewritten the table since.
    if remembered is not None and table.note().get("pixel.version") == version:
        return FamilyReport(**{**remembered, "converted": 0, "reused": True})

    work = FamilyWork(
        lake, table=table, family=rule.family, recipe=RECIPE_VERSION, executor=executor, replay=replay
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
    work.forget()
    return report


def replay_quarantine(
    lake: Lake, *, config: FamilyConfig, executor: Executor, wanted: Wanted
) -> Iterator[tuple[FamilyReport, int, int]]:
    """Convert what lies in quarantine again, and nothing else: for after a correction of code or of families.yaml.

    What is not wanted stays as it is and counts as converted by the present code, so that the next conversion does not
    begin with it again. Families without anything that is wanted are left alone, unless everything is wanted.

    Yields:
        Each family's report, and how many wanted records were in its quarantine before and are now.
    """
    inventory = Table(lake, keys.INVENTORY).read(columns=["key", "size", "etag"])
    families = families_of(inventory, config=config, bucket=lake.data.name)
    before = _records_by_family(lake, wanted)
    for family, (rule, objects) in families.items():
        if family in before or wanted == Wanted():
            report = convert_family(lake, rule=rule, objects=objects, executor=executor, replay=wanted)
            yield report, before[family], _records_by_family(lake, wanted)[family]


def _records_by_family(lake: Lake, wanted: Wanted) -> Counter[str]:
    records: Counter[str] = Counter()
    for count in counts(lake, wanted):
        records[count.family] += count.records
    return records


def retract_families(lake: Lake, *, present: Collection[FamilyRule]) -> list[str]:
    """Take families that have no raw objects any more out of ledger, quarantine and their tables; returns their names.

    To be called once the others are converted: they take over rows of objects that were theirs.
    """
    ledger = Table(lake, keys.LEDGER)
    if not ledger.exists():
        return []
    recorded = set(ledger.dataset().to_table(columns=["family"])["family"].to_pylist())
    gone = sorted(recorded - {rule.family for rule in present})
    for family in gone:
        leave_tables(lake, kept_results(lake.data, family).values())
        for key, schema in ((keys.QUARANTINE, QUARANTINE_SCHEMA), (keys.LEDGER, LEDGER_SCHEMA)):
            Table(lake, key).overwrite(
                schema.empty_table(), partition_by="family", partition={"family": family}
            )
        Memo(lake, f"conversations/{family}").forget()
        forget_results(lake.data, family)
    return gone


def _sum_counts(columns: Iterator[str]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for item in columns:
        total.update(orjson.loads(item))
    return dict(sorted(total.items()))
