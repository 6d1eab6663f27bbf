"""The quarantine rows of one object: one row a record; far beyond the object's error budget, only counts."""

from collections import Counter
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.convert.ledger import LedgerEntry
from pixel_pipeline.conversations.model.bad_runs import BadRuns
from pixel_pipeline.conversations.model.columns import Flags
from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline.conversations.model.schema import QUARANTINE_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject

OWN_ROWS = 200
"""Number of bad records of an object, or of a byte range of a large one, that have their own rows even beyond the budget."""

REST = "rest"
"""`position_kind` of a row that stands for many records."""


class Refused:
    """The bad records of one object, or of one byte range of it.

    Whether a record has its own row depends on the records before it in the object, not on how they are batched.
    """

    def __init__(self, source: SourceObject, entry: LedgerEntry) -> None:
        self._source = source
        self._entry = entry
        self._own = 0
        self._unlisted: Counter[str] = Counter()
        self._unlisted_bytes: Counter[str] = Counter()

    def take(self, bad: Flags, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        """Count the bad records of a batch in the ledger, and return its quarantine rows.

        Args:
            bad: Flags the bad records among all records of the batch, in the order of the object.
            rows: Their rows, without the columns that are the same for all.
        """
        entry = self._entry
        own: list[dict[str, Any]] = []
        run, before = entry.runs.last, -1
        for place, row in zip(np.flatnonzero(bad).tolist(), rows, strict=True):
            run, before = (run + 1 if place == before + 1 else 1), place
            entry.errors[row["error_class"]] += 1
            if self._own < OWN_ROWS or self._within_budget(entry.runs.records + place + 1, run=run):
                self._own += 1
                own.append(row)
            else:
                entry.unlisted += 1
                self._unlisted[row["error_class"]] += 1
                self._unlisted_bytes[row["error_class"]] += row["raw_size"]
        entry.runs += BadRuns.of(bad)
        # Joined messages are refused at their conversation's end, but rows are listed by position.
        return self._batch(sorted(own, key=itemgetter("position")))

    def unlisted(self) -> pa.RecordBatch:
        """Return one row an error class for the records that have no rows of their own."""
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

    def _batch(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        shared = {
            "source_key": self._source.key,
            "etag": self._source.etag,
            "family": self._source.family,
            "code_version": RECIPE_VERSION,
        }
        return pa.RecordBatch.from_pylist([row | shared for row in rows], schema=QUARANTINE_SCHEMA)
