"""The last sync, file by file, as one Parquet object of the lake."""

from collections import Counter
from dataclasses import dataclass
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
"""One row a file: its path below the source; what was done; size in bytes where it is known; why it failed; when the sync ended.

Actions: `copied` (new), `replaced` (changed), `unchanged`, `kept` (in raw, no longer in the source), `skipped` (no file),
`failed` (did not arrive), `unverified` (arrived, and does not compare equal). Sorted by action and path. A path has a second row where
several files of the source bear its name: one was taken, the others failed.
"""


@dataclass(frozen=True)
class SyncReport:
    """What one sync did.

    Attributes:
        rows: Table of SYNC_REPORT_SCHEMA.
        started: With time zone.
        seconds: That it took.
        verified: How source and raw were compared.
        without_hash: Files compared by size alone for want of a common hash.
        fault: Why the sync failed as a whole, or its verification did.
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
        """Files by action."""
        return Counter(self.rows["action"].to_pylist())

    def copied_bytes(self) -> int:
        """Bytes that were copied."""
        moved = self.rows.filter(pc.is_in(self.rows["action"], pa.array(ARRIVED)))
        return pc.sum(moved["size"]).as_py() or 0

    def compared(self) -> int:
        """Files of the source that arrived now or before."""
        counts = self.counts()
        return sum(counts[action] for action in (*ARRIVED, "unchanged", "unverified"))

    def problems(self) -> pa.Table:
        """Rows of what did not arrive, or not as it is in the source."""
        return self.rows.filter(pc.is_in(self.rows["action"], pa.array(PROBLEMS)))

    def reasons(self) -> Counter[str]:
        """Problems by reason."""
        return Counter(self.problems()["reason"].to_pylist())

    def verdict(self) -> str:
        """In a sentence: did everything arrive?"""
        counts = self.counts()
        told = [
            f"{n:,} {what}"
            for n, what in (
                (counts["failed"], "did not arrive"),
                (counts["unverified"], "differ from the source"),
            )
            if n
        ]
        if told:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(self.reasons().items()))
            return f"of {self.compared() + counts['failed']:,} files {' and '.join(told)}: {reasons}"
        if self.fault is not None:
            return f"the comparison with the source failed: {self.fault}"
        if not self.compared():
            return f"there is no file in {self.source}"
        how = {
            "hash": "sizes and hashes agree",
            "size": "sizes agree",
            "download": "all bytes agree",
            "off": "not compared afterwards",
        }[self.verified]
        without = f", {self.without_hash:,} by size alone" if self.without_hash else ""
        return f"all {self.compared():,} files are in raw; {how}{without}"

    @property
    def complete(self) -> bool:
        """Every file of the source lies in raw as it is there, and there is at least one."""
        return self.fault is None and self.problems().num_rows == 0 and self.compared() > 0


def build_report(
    outcome: Outcome, verification: Verification, *, source: str, destination: str, started: datetime
) -> SyncReport:
    """One row a file, from what copy and comparison found."""
    actions: dict[str, tuple[str, str | None]] = {}
    for action, names in (
        ("unchanged", outcome.unchanged),
        ("copied", outcome.copied),
        ("replaced", outcome.replaced),
        ("kept", outcome.kept),
    ):
        actions |= dict.fromkeys(names, (action, None))
    for action, reasons in (
        ("skipped", outcome.skipped),
        ("unverified", verification.problems),
        ("failed", outcome.failed),
    ):
        actions |= {name: (action, reason) for name, reason in reasons.items()}
    rows = sorted(
        [(action, name, reason) for name, (action, reason) in actions.items()]
        + [("failed", name, "duplicate_name") for name in outcome.duplicates]
    )
    now = datetime.now(UTC)
    # Google's own documents have no size before they are copied.
    sizes = {
        name: size for name, size in (outcome.copied | outcome.replaced).items() if size >= 0
    } | outcome.sizes
    table = pa.table(
        {
            "path": [name for _, name, _ in rows],
            "action": [action for action, _, _ in rows],
            "size": [
                None if action in ("failed", "skipped") else sizes.get(name) for action, name, _ in rows
            ],
            "reason": [reason for _, _, reason in rows],
            "at": [now] * len(rows),
        },
        schema=SYNC_REPORT_SCHEMA,
    )
    return SyncReport(
        source=source,
        destination=destination,
        rows=table,
        started=started,
        seconds=(now - started).total_seconds(),
        verified=verification.method,
        without_hash=verification.without_hash,
        fault=outcome.fault or verification.fault,
    )


_FACTS = ("source", "destination", "seconds", "verified", "without_hash", "fault")


def save_report(report: SyncReport, lake: Lake) -> None:
    """Keep it as the last one, whole or not at all."""
    facts = {name: getattr(report, name) for name in _FACTS} | {"started": report.started.isoformat()}
    buffer = io.BytesIO()
    pq.write_table(
        report.rows.replace_schema_metadata({"pixel.sync": orjson.dumps(facts)}), buffer, compression="zstd"
    )
    lake.data.put(keys.LAST_SYNC, buffer.getvalue())


def load_report(lake: Lake) -> SyncReport:
    """The last one. Raises SyncError where no sync has ended yet."""
    try:
        content = lake.data.get(keys.LAST_SYNC)
    except ObjectNotFoundError:
        raise SyncError(
            f"No sync has ended in {lake.data.uri()} yet.", hint="Run `pixel sync` or the job `sync_raw`."
        ) from None
    rows = pq.read_table(io.BytesIO(content))
    facts: dict[str, Any] = orjson.loads((rows.schema.metadata or {})[b"pixel.sync"])
    facts["started"] = datetime.fromisoformat(facts["started"])
    return SyncReport(rows=rows.replace_schema_metadata(), **facts)
