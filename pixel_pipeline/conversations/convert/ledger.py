"""The ledger entry of one object: the number of records it had, and the outcome of each."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from pixel_pipeline.conversations.convert.detection import Detection, merged_detection
from pixel_pipeline.conversations.model.bad_runs import BadRuns
from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline.conversations.model.source import SourceObject

_SUMS = ("records_in", "records_out", "quarantined", "unlisted")
_COUNTS = ("formats", "errors", "dropped", "repaired")


@dataclass(slots=True)
class LedgerEntry:
    """Counts of one converted object. `records_in == records_out + quarantined + sum(dropped.values())`.

    Attributes:
        source: The raw object.
        container: Name of the container or archive; "other" if there is none.
        encoding: Python's name of the encoding, or "binary".
        records_in: Records found.
        records_out: Conversations written.
        formats: Conversations by format name.
        errors: Quarantined records by error class.
        unlisted: Number of them without a quarantine row of their own.
        runs: Runs of quarantined records.
        dropped: Records by reason that are neither written nor quarantined.
        repaired: Changes made, by kind.
        detection: How the object was identified, and why.
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
        """Count records that became conversations."""
        self.records_in += n
        self.records_out += n
        self.formats[format_name] += n

    def count_dropped(self, reason: str) -> None:
        """Count a record that is not a conversation and should not be one."""
        self.records_in += 1
        self.dropped[reason] += 1
        self.runs += BadRuns.none(1)

    @property
    def quarantined(self) -> int:
        """Number of quarantined records."""
        return self.errors.total()

    def to_row(self) -> dict[str, Any]:
        """Return the entry as a row of LEDGER_SCHEMA."""
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
            "detection": orjson.dumps(self.detection.to_json()).decode(),
        }


def merged_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the rows of LEDGER_SCHEMA of each object's pieces, which follow each other, into one."""
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
        runs = BadRuns.of_row(whole) + BadRuns.of_row(row)
        merged[-1] = whole | sums | counts | runs.columns() | {"detection": detection}
    return merged


def json_counts(counts: Counter[str]) -> str:
    """Counts as stored in the ledger: without zeros, sorted."""
    return orjson.dumps({key: n for key, n in counts.items() if n}, option=orjson.OPT_SORT_KEYS).decode()
