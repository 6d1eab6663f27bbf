"""Finds sources that exceed their error budget: too large a share of bad records, or too many in a row.

An object is judged on its own if it has enough records or bytes for a share to be meaningful. Small objects, such as transcripts
of one record each, are judged together with the other small objects of their folder, in the order of their keys.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.conversations.model.bad_runs import BadRuns
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table

SMALL_RECORDS = 20
SMALL_BYTES = 1 << 20
"""An object below both limits is judged with its folder."""

_COLUMNS = ["source_key", "family", "bytes", "records_in", "quarantined", "errors", "unlisted"]
_COLUMNS += ["longest_bad_run", "first_bad_run", "last_bad_run"]


@dataclass
class SourceErrors:
    """Bad records of a source.

    Attributes:
        source: Raw key of the object; for small objects, their folder with a trailing slash.
        budget: Options of its rule.
        objects: Number of objects.
        runs: Number of records, and the longest run of bad ones.
        bad: Quarantined records.
        errors: Quarantined records by error class.
        unlisted: Quarantined records without a quarantine row of their own.
    """

    source: str
    family: str
    budget: ConversionOptions
    objects: int = 0
    runs: BadRuns = field(default_factory=BadRuns)
    bad: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unlisted: int = 0

    def count(self, row: Mapping[str, Any]) -> None:
        """Add an object by its ledger row. Call it in the order of the objects' keys."""
        self.objects += 1
        self.runs += BadRuns.of_row(row)
        self.bad += row["quarantined"]
        self.errors.update(orjson.loads(row["errors"] or "{}"))
        self.unlisted += row["unlisted"] or 0

    @property
    def share(self) -> float:
        """Share of bad records, 0 to 1."""
        return self.bad / self.runs.records if self.runs.records else 0.0

    def excess(self) -> str | None:
        """Describe how the budget is exceeded; None if it is not."""
        excesses = []
        if self.share > self.budget.max_bad_share:
            excesses.append(f"{self.share:.1%}, {self.budget.max_bad_share:.1%} allowed")
        if self.runs.longest > self.budget.max_bad_run:
            excesses.append(f"{self.runs.longest:,} in a row, {self.budget.max_bad_run:,} allowed")
        if self.unlisted and not excesses:
            # One byte range of a large object exceeded the budget.
            excesses.append(
                f"a part of it exceeds the budget; {self.unlisted:,} records are not listed one by one"
            )
        return "; ".join(excesses) or None


def beyond_budget(lake: Lake, config: FamilyConfig) -> list[SourceErrors]:
    """Sources of the lake that exceed their error budget, most bad records first."""
    table = Table(lake, keys.LEDGER)
    return find_beyond_budget(table.read(columns=_COLUMNS), config) if table.exists() else []


def find_beyond_budget(ledger: pa.Table, config: FamilyConfig) -> list[SourceErrors]:
    """Like `beyond_budget`, for a table with the columns of the ledger."""
    bad = pc.greater(ledger["quarantined"], 0)
    small = pc.and_(pc.less(ledger["records_in"], SMALL_RECORDS), pc.less(ledger["bytes"], SMALL_BYTES))
    folder = pc.replace_substring_regex(ledger["source_key"], pattern="[^/]*$", replacement="")
    ledger = ledger.append_column("small", small).append_column("folder", folder)
    touched = pc.is_in(folder, value_set=pc.unique(folder.filter(pc.and_(bad, small))))
    looked_at = pc.or_(pc.and_(bad, pc.invert(small)), pc.and_(small, touched))
    sources: dict[tuple[str, str, ConversionOptions], SourceErrors] = {}
    for row in ledger.filter(looked_at).sort_by("source_key").to_pylist():
        name = row["folder"] if row["small"] else row["source_key"]
        place = (name, row["family"], config.classify(row["source_key"]).options)
        sources.setdefault(place, SourceErrors(*place)).count(row)
    return sorted(
        (source for source in sources.values() if source.excess() is not None),
        key=lambda source: (-source.bad, source.source),
    )
