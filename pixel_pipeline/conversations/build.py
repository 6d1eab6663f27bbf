"""All raw objects of one family to its canonical table, its quarantine and its ledger."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import orjson
import pyarrow as pa

from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.conversations.conversion import CODE_VERSION, convert_object
from pixel_pipeline.conversations.families import FamilyConfig, FamilyRule
from pixel_pipeline.conversations.schema import CONVERSATION_SCHEMA, LEDGER_SCHEMA, QUARANTINE_SCHEMA
from pixel_pipeline.conversations.source import SourceObject
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table
from pixel_pipeline.settings import Settings, get_settings

BUNDLE_BYTES = 16 * 1024**2
BUNDLE_OBJECTS = 512


@dataclass(frozen=True)
class FamilyReport:
    """What became of a family's raw objects.

    Attributes:
        version: Digest of the raw objects, rules and code that the table is made of.
        reused: Nothing had changed, so nothing was converted.
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
    reused: bool = False


@dataclass(frozen=True)
class _Bundle:
    """Raw objects small enough together to be one task."""

    objects: tuple[SourceObject, ...]


@dataclass(frozen=True)
class _Converted:
    conversations: list[pa.RecordBatch]
    quarantine: list[pa.RecordBatch]
    ledger: list[dict[str, Any]]


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
    lake: Lake, *, rule: FamilyRule, objects: Sequence[SourceObject], executor: LocalExecutor
) -> FamilyReport:
    """Bring a family's canonical table, quarantine and ledger up to date with its raw objects.

    Nothing is read or written when objects, rules and code are those of the last time. Otherwise the family is converted
    as a whole; each of the three tables changes in one atomic commit.

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
        return FamilyReport(**{**remembered, "reused": True})

    quarantine: list[pa.RecordBatch] = []
    ledger: list[dict[str, Any]] = []

    def conversations() -> Iterator[pa.RecordBatch]:
        for converted in executor.map(_convert_bundle, _bundles(objects)):
            quarantine.extend(converted.quarantine)
            ledger.extend(converted.ledger)
            yield from converted.conversations

    note = {"pixel.version": version}
    table.overwrite(pa.RecordBatchReader.from_batches(CONVERSATION_SCHEMA, conversations()), note=note)
    partition = {"family": rule.family}
    for key, rows in (
        (keys.QUARANTINE, pa.Table.from_batches(quarantine, schema=QUARANTINE_SCHEMA)),
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
    )
    memo.remember(version, asdict(report))
    return report


def retract_families(lake: Lake, *, present: set[str]) -> list[str]:
    """Take families that have no raw objects any more out of ledger and quarantine; returns their names."""
    ledger = Table(lake, keys.LEDGER)
    if not ledger.exists():
        return []
    recorded = set(ledger.dataset().to_table(columns=["family"])["family"].to_pylist())
    gone = sorted(recorded - present)
    for family in gone:
        for key, schema in ((keys.QUARANTINE, QUARANTINE_SCHEMA), (keys.LEDGER, LEDGER_SCHEMA)):
            Table(lake, key).overwrite(
                schema.empty_table(), partition_by="family", partition={"family": family}
            )
        Memo(lake, f"conversations/{family}").forget()
    return gone


def _bundles(objects: Sequence[SourceObject]) -> list[_Bundle]:
    bundles: list[_Bundle] = []
    members: list[SourceObject] = []
    size = 0
    for source in objects:
        if members and (size + source.size > BUNDLE_BYTES or len(members) == BUNDLE_OBJECTS):
            bundles.append(_Bundle(tuple(members)))
            members, size = [], 0
        members.append(source)
        size += source.size
    if members:
        bundles.append(_Bundle(tuple(members)))
    return bundles


def _worker_lake() -> Lake:
    # Tasks carry no credentials: a worker connects by the settings of its own environment.
    return _lake_of(get_settings())


@cache
def _lake_of(settings: Settings) -> Lake:
    return Lake.open(settings)


def _convert_bundle(bundle: _Bundle) -> _Converted:
    lake = _worker_lake()
    result = _Converted(conversations=[], quarantine=[], ledger=[])
    for source in bundle.objects:
        with lake.data.open(source.key, etag=source.etag) as stream:
            conversion = convert_object(source, stream)
            for batch in conversion:
                if batch.conversations.num_rows:
                    result.conversations.append(batch.conversations)
                if batch.quarantine.num_rows:
                    result.quarantine.append(batch.quarantine)
            result.ledger.append(conversion.ledger.to_row())
    return result


def _sum_counts(columns: Iterator[str]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for item in columns:
        total.update(orjson.loads(item))
    return dict(sorted(total.items()))
