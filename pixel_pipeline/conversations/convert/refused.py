"""What of an object goes to quarantine: a row a record; far beyond the object's error budget, counted together."""

from collections import Counter
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.convert.ledger import LedgerEntry
from pixel_pipeline.conversations.model.bad_runs import BadRuns
from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline.conversations.model.records import RecordError
from pixel_pipeline.conversations.model.schema import QUARANTINE_RAW_BYTES, QUARANTINE_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject

OWN_ROWS = 200
"""So many bad records of an object, or of a byte range of a large one, have rows of their own even beyond the budget."""

REST = "rest"
"""`position_kind` of a row that stands for many records."""

_NOTHING = pa.RecordBatch.from_pylist([], schema=QUARANTINE_SCHEMA)


class _Row(NamedTuple):
    place: int
    late: bool
    row: dict[str, Any]


class Refused:
    """The bad records of one object, or of one byte range of it.

    Records are refused as they come, or when their batch is settled; the order in which they stand in the object decides.
    Whether a record has a row of its own depends on what stands before it, not on how records are batched.
    """

    def __init__(self, source: SourceObject, entry: LedgerEntry) -> None:
        self._source = source
        self._entry = entry
        self._rows: list[_Row] = []
        self._own = 0
        self._unlisted: Counter[str] = Counter()
        self._unlisted_bytes: Counter[str] = Counter()

    def add(
        self,
        *,
        position: int,
        position_kind: str,
        member: str | None,
        raw: bytes | None,
        raw_size: int,
        error: RecordError,
        place: int,
        late: bool,
    ) -> int:
        """Adds a record.

        Args:
            raw: Its bytes, where it is not the whole object.
            raw_size: Its full size in bytes.
            place: Conversations of the batch before it.
            late: It was one of them until the batch was settled.

        Returns:
            How many bytes of it are kept.
        """
        kept = None if position_kind == "object" or raw is None else raw[:QUARANTINE_RAW_BYTES]
        row = {
            "position": position,
            "position_kind": position_kind,
            "member": member,
            "raw_bytes": kept,
            "raw_size": raw_size,
            "error_class": error.error_class,
            "reason": error.reason,
            "records": 1,
        }
        self._rows.append(_Row(place, late, row))
        return len(kept or b"")

    def take(self, arrived: int) -> pa.RecordBatch:
        """Books a batch and returns its quarantine rows; starts anew.

        Args:
            arrived: Conversations of the batch, those that were refused when it was settled among them.
        """
        entry = self._entry
        if not self._rows:
            entry.runs += BadRuns.none(arrived)
            return _NOTHING
        rows = sorted(self._rows, key=itemgetter(0, 1))
        self._rows = []
        # Records that never were conversations stand between those that were.
        between = np.cumsum([not row.late for row in rows]).tolist()
        bad = np.zeros(arrived + between[-1], np.bool_)
        own: list[dict[str, Any]] = []
        run, before = entry.runs.last, -1
        for row, n in zip(rows, between, strict=True):
            place = row.place + n - (not row.late)
            bad[place] = True
            run, before = (run + 1 if place == before + 1 else 1), place
            entry.errors[row.row["error_class"]] += 1
            if self._own < OWN_ROWS or self._within_budget(entry.runs.records + place + 1, run=run):
                self._own += 1
                own.append(row.row)
            else:
                self._count(row.row)
        entry.runs += BadRuns.of(bad)
        # Threads are refused where they end; a reader wants positions in their order.
        return self._batch(sorted(own, key=itemgetter("position")))

    def unlisted(self) -> pa.RecordBatch:
        """Returns one row an error class for the records that have no rows of their own."""
        return self._batch(
            [
                {
                    "position": 0,
                    "position_kind": REST,
                    "member": None,
                    "raw_bytes": None,
                    "raw_size": self._unlisted_bytes[error_class],
                    "error_class": error_class,
                    "reason": f"{n} further records beyond the error budget; their bytes are in the raw object alone",
                    "records": n,
                }
                for error_class, n in sorted(self._unlisted.items())
            ]
        )

    def _within_budget(self, records: int, *, run: int) -> bool:
        budget = self._source.options
        return self._entry.quarantined <= budget.max_bad_share * records and run <= budget.max_bad_run

    def _count(self, row: dict[str, Any]) -> None:
        self._entry.unlisted += 1
        self._unlisted[row["error_class"]] += 1
        self._unlisted_bytes[row["error_class"]] += row["raw_size"]

    def _batch(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        same = {
            "source_key": self._source.key,
            "etag": self._source.etag,
            "family": self._source.family,
            "code_version": RECIPE_VERSION,
        }
        return pa.RecordBatch.from_pylist([row | same for row in rows], schema=QUARANTINE_SCHEMA)
