"""Report of the last sync, one row per file, stored as a Parquet object in the lake."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
import io
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.sync.copy import Outcome
from pixel_pipeline.sync.rclone import SyncError
from pixel_pipeline.sync.verify import Verification

ARRIVED = ("copied", "replaced")
PROBLEMS = ("failed", "unverified")
SYNC_REPORT_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""One row per file: path in the source, action, size in bytes if known, reason of a failure, end of the sync.

Actions: `copied` (new), `replaced` (changed), `unchanged`, `kept` (in raw, no longer in the source), `skipped` (not a regular file),
`failed` (did not arrive), `unverified` (arrived, but differs). Sorted by action and path. A path has a second row if several files of
the source share its name: one was copied, the others failed.
"""


@dataclass(frozen=True)
class SyncReport:
    """Result of one sync.

    Attributes:
        rows: Table of SYNC_REPORT_SCHEMA.
        started: Start, with time zone.
        seconds: Duration.
        verified: Method of the comparison.
        without_hash: Files compared by size alone because they lack a common hash.
        fault: Reason why the sync or its verification failed as a whole.
    """

    source: str
    destination: str
    rows: pa.Table
    started: datetime
    seconds: float
    verified: str
    without_hash: int
    fault: str | None

    def counts(self) -> Counter[str]:
        """Count files by action."""
        return Counter(self.rows["action"].to_pylist())

    def copied_bytes(self) -> int:
        """Sum the bytes copied."""
        arrived = self.rows.filter(pc.is_in(self.rows["action"], pa.array(ARRIVED)))
        return pc.sum(arrived["size"]).as_py() or 0

    def compared(self) -> int:
        """Count files of the source that are in raw."""
        counts = self.counts()
        return sum(counts[action] for action in (*ARRIVED, "unchanged", "unverified"))

    def problems(self) -> pa.Table:
        """Return the rows of files that did not arrive or differ from the source."""
        return self.rows.filter(pc.is_in(self.rows["action"], pa.array(PROBLEMS)))

    def reasons(self) -> Counter[str]:
        """Count problems by reason."""
        return Counter(self.problems()["reason"].to_pylist())

    def verdict(self) -> str:
        """Summarise in a sentence whether everything arrived."""
        counts = self.counts()
        problems = [
            f"{n:,} {problem}"
            for n, problem in (
                (counts["failed"], "did not arrive"),
                (counts["unverified"], "differ from the source"),
            )
            if n
        ]
        if problems:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(self.reasons().items()))
            return f"of {self.compared() + counts['failed']:,} files, {' and '.join(problems)}: {reasons}"
        if self.fault is not None:
            return f"the comparison with the source failed: {self.fault}"
        if not self.compared():
            return f"there is no file in {self.source}"
        comparison = {
            "hash": "sizes and hashes agree",
            "size": "sizes agree",
            "download": "all bytes agree",
            "off": "not compared afterwards",
        }[self.verified]
        by_size = f", {self.without_hash:,} compared by size only" if self.without_hash else ""
        return f"all {self.compared():,} files are in raw; {comparison}{by_size}"

    @property
    def complete(self) -> bool:
        """Whether every file of the source is in raw unchanged, and there is at least one."""
        return self.fault is None and self.problems().num_rows == 0 and self.compared() > 0


def build_report(
    outcome: Outcome, verification: Verification, *, source: str, destination: str, started: datetime
) -> SyncReport:
    """Combine the results of copy and comparison."""
    reasons_by_action: tuple[tuple[str, Mapping[str, str | None]], ...] = (
        ("unchanged", dict.fromkeys(outcome.unchanged)),
        ("copied", dict.fromkeys(outcome.copied)),
        ("replaced", dict.fromkeys(outcome.replaced)),
        ("kept", dict.fromkeys(outcome.kept)),
        ("skipped", outcome.skipped),
        ("unverified", verification.problems),
        ("failed", outcome.failed),
    )
    # A later action replaces an earlier one of the same file.
    actions = {
        name: (action, reason) for action, reasons in reasons_by_action for name, reason in reasons.items()
    }
    rows = [(action, name, reason) for name, (action, reason) in actions.items()]
    rows += [("failed", name, "duplicate_name") for name in outcome.duplicates]
    now = datetime.now(UTC)
    # Google documents have no size before they are exported.
    copied = {name: size for name, size in (outcome.copied | outcome.replaced).items() if size >= 0}
    sizes = copied | outcome.sizes
    table = [
        {
            "path": name,
            "action": action,
            "size": None if action in ("failed", "skipped") else sizes.get(name),
            "reason": reason,
            "at": now,
        }
        for action, name, reason in sorted(rows)
    ]
    return SyncReport(
        source=source,
        destination=destination,
        rows=pa.Table.from_pylist(table, schema=SYNC_REPORT_SCHEMA),
        started=started,
        seconds=(now - started).total_seconds(),
        verified=verification.method,
        without_hash=verification.without_hash,
        fault=outcome.fault or verification.fault,
    )


def save_report(report: SyncReport, lake: Lake) -> None:
    """Store the report as the last one."""
    facts = {field.name: getattr(report, field.name) for field in fields(report) if field.name != "rows"}
    buffer = io.BytesIO()
    pq.write_table(
        report.rows.replace_schema_metadata({"pixel.sync": orjson.dumps(facts)}), buffer, compression="zstd"
    )
    lake.data.put(keys.LAST_SYNC, buffer.getvalue())


def load_report(lake: Lake) -> SyncReport:
    """Load the last report. Raises SyncError before the first sync."""
    try:
        content = lake.data.get(keys.LAST_SYNC)
    except ObjectNotFoundError:
        raise SyncError(
            f"{lake.data.uri()} has no sync report yet.", hint="Run `pixel sync` or the job `sync_raw`."
        ) from None
    rows = pq.read_table(io.BytesIO(content))
    facts: dict[str, Any] = orjson.loads((rows.schema.metadata or {})[b"pixel.sync"])
    facts["started"] = datetime.fromisoformat(facts["started"])
    return SyncReport(rows=rows.replace_schema_metadata(), **facts)
