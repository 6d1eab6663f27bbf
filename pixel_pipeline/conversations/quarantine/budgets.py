"""Which sources are beyond their error budget: too much of them is bad, or too much in a row.

An object is judged alone where it has enough records, or bytes, for a share to mean something. Small ones, such as transcripts of one
record each, are judged together with those of their folder, in the order of their keys.
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
"""An object with fewer records than the one and fewer bytes than the other is judged with its folder."""

_COLUMNS = ["source_key", "family", "bytes", "records_in", "quarantined", "errors", "unlisted"]
_COLUMNS += ["longest_bad_run", "first_bad_run", "last_bad_run"]


@dataclass
class SourceErrors:
    """What of a source is bad.

    Attributes:
        source: Raw key of the object; of small objects, their folder with a slash at its end.
        budget: Options of the rule that holds for it.
        objects: Objects that it is.
        bad: Records quarantined; `runs` has how many there are, and how many of them come in a row.
        errors: These by error class.
        unlisted: Those of them that have no quarantine row of their own.
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
        """Counts an object, by its row of the ledger; objects in the order of their keys."""
        self.objects += 1
        self.runs += BadRuns.of_row(row)
        self.bad += row["quarantined"]
        self.errors.update(orjson.loads(row["errors"] or "{}"))
        self.unlisted += row["unlisted"] or 0

    @property
    def share(self) -> float:
        """Share of the records that is bad, 0 to 1."""
        return self.bad / self.runs.records if self.runs.records else 0.0

    def excess(self) -> str | None:
        """What is beyond the budget, for a person; None where nothing is."""
        told = []
        if self.share > self.budget.max_bad_share:
            told.append(f"{self.share:.1%}, {self.budget.max_bad_share:.1%} allowed")
        if self.runs.longest > self.budget.max_bad_run:
            told.append(f"{self.runs.longest:,} in a row, {self.budget.max_bad_run:,} allowed")
        if self.unlisted and not told:
            # One of the byte ranges that a large object is converted in.
            told.append(f"a part of it is beyond the budget; {self.unlisted:,} are not listed one by one")
        return "; ".join(told) or None


def beyond_budget(lake: Lake, config: FamilyConfig) -> list[SourceErrors]:
    """The sources of the lake that are beyond their error budget, those with the most bad records first."""
    table = Table(lake, keys.LEDGER)
    return find_beyond_budget(table.read(columns=_COLUMNS), config) if table.exists() else []


def find_beyond_budget(ledger: pa.Table, config: FamilyConfig) -> list[SourceErrors]:
    """As `beyond_budget`, of some columns of LEDGER_SCHEMA."""
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
