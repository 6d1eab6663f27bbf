"""Accounts of every record from raw object to curated conversation, recounted in the tables.

A step's own counts prove nothing, so every number is counted in the stored tables. At every stage, records in must equal
records out + quarantined + dropped.
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
    """One family's records at every stage.

    Attributes:
        objects, bytes: Number and size of raw objects.
        records_in: Records in the raw objects, according to the ledger.
        ledger_out, ledger_quarantined: Converted and quarantined records, according to the ledger.
        converted: Rows of the canonical table.
        quarantined: Records in the quarantine by error class.
        skipped: Records that conversion skipped, by reason (`not_a_dataset`), according to the ledger.
        dropped: Rows of the dropped table by reason (`exact_duplicate`, `near_duplicate`).
        curated: Rows of the curated table by split.
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
        """Describe every mismatch; empty if the accounts balance."""
        quarantined, curated = self.quarantined.total(), self.curated.total()
        found = self.converted + quarantined + self.skipped.total()
        equations = (
            (self.records_in, "raw records", found, "converted + quarantined + skipped"),
            (self.ledger_out, "conversations by the ledger", self.converted, "rows of the canonical table"),
            (self.ledger_quarantined, "quarantined by the ledger", quarantined, "records in the quarantine"),
            (self.converted, "conversations", curated + self.dropped.total(), "curated + dropped"),
        )
        return [
            f"{self.family}: {left:,} {left_name}, but {right:,} {right_name}"
            for left, left_name, right, right_name in equations
            if left != right
        ]


def read_accounts(lake: Lake, families: FamilyConfig) -> dict[str, FamilyAccount]:
    """Recount every family, sorted by name; empty before the first conversion.

    A family with rows in a later table but none in the ledger gets an account too, which does not balance.
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
    quarantined = _count_rows(lake, keys.QUARANTINE, by="error_class", weight="records")
    for (family, error_class), n in quarantined.items():
        account_of(family).quarantined[error_class] = n
    for (family, reason), n in _count_rows(lake, keys.DROPPED, by="reason").items():
        account_of(family).dropped[reason] = n
    for (family, split), n in _count_rows(lake, keys.CURATED, by="split").items():
        account_of(family).curated[split] = n
    for family, account in accounts.items():
        rule = families.rule_of(family)
        table = Table(lake, keys.conversations_table(category=rule.category, dataset=rule.dataset))
        account.converted = table.row_count() if table.exists() else 0
    return dict(sorted(accounts.items()))


def unaccounted_objects(lake: Lake) -> list[str]:
    """Sorted keys of raw objects whose current version is not in the ledger, and of ledger entries without an object."""

    def versions(table: str, key: str) -> set[tuple[str, str]]:
        rows = Table(lake, table).dataset().to_table(columns=[key, "etag"])
        return set(zip(rows[key].to_pylist(), rows["etag"].to_pylist(), strict=True))

    return sorted({key for key, _ in versions(keys.INVENTORY, "key") ^ versions(keys.LEDGER, "source_key")})


def _count_rows(lake: Lake, key: str, *, by: str, weight: str | None = None) -> dict[tuple[str, str], int]:
    """Count rows by family and another column; with a weight column, each row counts its value (null: 1)."""
    table = Table(lake, key)
    if not table.exists():
        return {}
    dataset = table.dataset()
    weighted = weight is not None and weight in dataset.schema.names
    rows: pa.Table = dataset.to_table(columns=["family", by, *([weight] if weighted else [])])
    n = pc.fill_null(rows[weight], 1) if weighted else pa.array(np.ones(rows.num_rows, np.int64))
    counts = rows.select(["family", by]).append_column("n", n).group_by(["family", by])
    return {(row["family"], row[by]): row["n_sum"] for row in counts.aggregate([("n", "sum")]).to_pylist()}
