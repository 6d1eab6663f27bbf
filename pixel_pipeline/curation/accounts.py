"""The books, from raw objects to curated conversations, read back from the tables themselves.

Counts that a step reports of itself prove nothing. Here every number is counted in the table where the records lie, and
the numbers have to agree: records in = records out + quarantined + dropped, at every stage.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table


@dataclass
class FamilyAccount:
    """One family's records, stage by stage.

    Attributes:
        objects, bytes: Raw objects and their size.
        records_in: Records found in them, by the ledger.
        converted: Rows of the canonical table.
        quarantined: Records in the quarantine, by error class.
        skipped: Records by reason that conversion dropped, by the ledger (`not_a_dataset`).
        dropped: Rows of the dropped table, by reason (`exact_duplicate`, `near_duplicate`).
        curated: Rows of the curated table, by split.
    """

    family: str
    objects: int = 0
    bytes: int = 0
    records_in: int = 0
    ledger_out: int = 0
    ledger_quarantined: int = 0
    converted: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    curated: Counter[str] = field(default_factory=Counter)

    def imbalances(self) -> list[str]:
        """What does not add up; empty for clean books."""
        statements = (
            (
                "raw records",
                self.records_in,
                "converted + quarantined + skipped",
                self.converted + self.quarantined.total() + self.skipped.total(),
            ),
            ("conversations by the ledger", self.ledger_out, "rows of the canonical table", self.converted),
            (
                "quarantined by the ledger",
                self.ledger_quarantined,
                "records in the quarantine",
                self.quarantined.total(),
            ),
            (
                "conversations",
                self.converted,
                "curated + dropped",
                self.curated.total() + self.dropped.total(),
            ),
        )
        return [
            f"{self.family}: {left:,} {name}, but {right:,} {other}"
            for name, left, other, right in statements
            if left != right
        ]


def read_accounts(lake: Lake, families: FamilyConfig) -> dict[str, FamilyAccount]:
    """The accounts of every family in the ledger, sorted by name; empty before the first conversion.

    A family that has rows in a later table but no ledger has an account too, which does not balance.
    """
    accounts: dict[str, FamilyAccount] = {}

    def account_of(family: str) -> FamilyAccount:
        return accounts.setdefault(family, FamilyAccount(family=family))

    ledger = Table(lake, keys.LEDGER)
    if not ledger.exists():
        return accounts
    for row in ledger.dataset().to_table().to_pylist():
        account = account_of(row["family"])
        account.objects += 1
        account.bytes += row["bytes"]
        account.records_in += row["records_in"]
        account.ledger_out += row["records_out"]
        account.ledger_quarantined += row["quarantined"]
        account.skipped.update(orjson.loads(row["dropped"]))
    refused = _count(lake, keys.QUARANTINE, "family", "error_class", weight="records")
    for (family, error_class), n in refused.items():
        account_of(family).quarantined[error_class] += n
    for (family, reason), n in _count(lake, keys.DROPPED, "family", "reason").items():
        account_of(family).dropped[reason] += n
    for (family, split), n in _count(lake, keys.CURATED, "family", "split").items():
        account_of(family).curated[split] += n
    for family, account in accounts.items():
        rule = families.rule_of(family)
        table = Table(lake, keys.conversations_table(category=rule.category, dataset=rule.dataset))
        account.converted = table.row_count() if table.exists() else 0
    return dict(sorted(accounts.items()))


def unaccounted_objects(lake: Lake) -> list[str]:
    """Raw objects without a ledger entry of their present version, and entries without an object; keys, sorted."""
    listed = Table(lake, keys.INVENTORY).dataset().to_table(columns=["key", "etag"])
    booked = Table(lake, keys.LEDGER).dataset().to_table(columns=["source_key", "etag"])
    return sorted(
        {
            key
            for key, _ in set(zip(*(listed[c].to_pylist() for c in ("key", "etag")), strict=True))
            ^ set(zip(*(booked[c].to_pylist() for c in ("source_key", "etag")), strict=True))
        }
    )


def _count(lake: Lake, key: str, *columns: str, weight: str | None = None) -> dict[tuple[str, ...], int]:
    """Rows by what stands in some columns; with a weight, each counts as many times as that column says (null: once)."""
    table = Table(lake, key)
    if not table.exists():
        return {}
    dataset = table.dataset()
    weighted = weight is not None and weight in dataset.schema.names
    rows: pa.Table = dataset.to_table(columns=[*columns, *([weight] if weighted else [])])
    n = pc.fill_null(rows[weight], 1) if weighted else pa.array(np.ones(rows.num_rows, np.int64))
    counted = rows.select(columns).append_column("n", n).group_by(list(columns)).aggregate([("n", "sum")])
    names = zip(*(counted[column].to_pylist() for column in columns), strict=True)
    return dict(zip(names, counted["n_sum"].to_pylist(), strict=True))
