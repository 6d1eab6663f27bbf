"""The account of one object: what came in, and what became of each record."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from pixel_pipeline.conversations.convert.detection import Detection, merged_detection
from pixel_pipeline.conversations.model.bad_runs import BadRuns
from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline.conversations.model.schema import LEDGER_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject

_SUMS = ("records_in", "records_out", "quarantined", "unlisted")
_COUNTS = ("formats", "errors", "dropped", "repaired")


@dataclass(slots=True)
class LedgerEntry:
    """Counts of one converted object. `records_in == records_out + quarantined + sum(dropped.values())`.

    Attributes:
        source: The raw object.
        container: Name of the container; "other" for none.
        encoding: "utf-8", "utf-16", "cp1252" or "binary".
        records_in: Records found.
        records_out: Conversations written.
        formats: Conversations by format name.
        errors: Records quarantined, by error class.
        unlisted: Those of them that have no quarantine row of their own.
        runs: How many of them come in a row.
        dropped: Records by reason that are neither written nor quarantined.
        repaired: Changes made, by kind.
        detection: What the object was taken for, and why.
    """

    source: SourceObject
    container: str = "other"
    encoding: str = "binary"
    records_in: int = 0
    records_out: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    unlisted: int = 0
    runs: BadRuns = field(default_factory=BadRuns)
    dropped: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    detection: Detection = field(init=False)

    def __post_init__(self) -> None:
        self.detection = Detection(self.source.options)

    def count_converted(self, n: int, format_name: str) -> None:
        """Counts records that came in and became conversations."""
        self.records_in += n
        self.records_out += n
        self.formats[format_name] += n

    def count_dropped(self, reason: str) -> None:
        """Counts a record that came in and is no conversation, nor ought to be one."""
        self.records_in += 1
        self.dropped[reason] += 1
        self.runs += BadRuns.none(1)

    @property
    def quarantined(self) -> int:
        """Records quarantined."""
        return self.errors.total()

    @property
    def conserved(self) -> bool:
        """Whether every record is accounted for."""
        return self.records_in == self.records_out + self.quarantined + sum(self.dropped.values())

    def to_row(self) -> dict[str, Any]:
        """Returns the entry as a row of LEDGER_SCHEMA."""
        return {
            "source_key": self.source.key,
            "etag": self.source.etag,
            "family": self.source.family,
            "container": self.container,
            "formats": json_counts(self.formats),
            "encoding": self.encoding,
            "bytes": self.source.size,
            "records_in": self.records_in,
            "records_out": self.records_out,
            "quarantined": self.quarantined,
            "errors": json_counts(self.errors),
            "unlisted": self.unlisted,
            **self.runs.columns(),
            "dropped": json_counts(self.dropped),
            "repaired": json_counts(self.repaired),
            "code_version": RECIPE_VERSION,
            "detection": self.detection.dumped(),
        }


def ledger_table(entries: list[LedgerEntry]) -> pa.Table:
    """Returns entries as a table of LEDGER_SCHEMA."""
    return pa.Table.from_pylist([entry.to_row() for entry in entries], schema=LEDGER_SCHEMA)


def merged_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of LEDGER_SCHEMA, those of the pieces of one object as one; pieces follow each other."""
    merged: list[dict[str, Any]] = []
    for row in rows:
        if not merged or merged[-1]["source_key"] != row["source_key"]:
            merged.append(row)
            continue
        whole = merged[-1]
        sums = {name: whole[name] + row[name] for name in _SUMS}
        counts = {
            name: json_counts(Counter(orjson.loads(whole[name])) + Counter(orjson.loads(row[name])))
            for name in _COUNTS
        }
        detection = merged_detection(whole["detection"], row["detection"])
        # Before the sums: how many records there were before decides which runs meet.
        runs = BadRuns.of_row(whole) + BadRuns.of_row(row)
        merged[-1] = whole | sums | counts | runs.columns() | {"detection": detection}
    return merged


def json_counts(counts: Counter[str]) -> str:
    """Counts as the ledger keeps them: without zeros, sorted."""
    return orjson.dumps({key: n for key, n in counts.items() if n}, option=orjson.OPT_SORT_KEYS).decode()
