"""How many records in a row are bad, counted so that the counts of an object's parts add up to the whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixel_pipeline.conversations.model.columns import Flags


@dataclass(frozen=True, slots=True)
class BadRuns:
    """Runs of quarantined records within a sequence of records.

    `first + second` describes both sequences together: the sum is the same however an object is cut.

    Attributes:
        records: Length of the sequence.
        longest: Length of the longest run of bad records.
        first: Number of bad records at its beginning.
        last: Number of bad records at its end.
    """

    records: int = 0
    longest: int = 0
    first: int = 0
    last: int = 0

    @classmethod
    def of(cls, bad: Flags) -> "BadRuns":
        """Count the runs of flagged records."""
        # Each good record ends a run, and so do both ends of the sequence.
        good = np.concatenate([[-1], np.flatnonzero(~bad), [len(bad)]])
        runs = np.diff(good) - 1
        return cls(len(bad), int(runs.max()), int(runs[0]), int(runs[-1]))

    @classmethod
    def none(cls, records: int) -> "BadRuns":
        """A sequence of good records."""
        return cls(records)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "BadRuns":
        """The runs of an object, from its row of LEDGER_SCHEMA."""
        runs = (row["longest_bad_run"] or 0, row["first_bad_run"] or 0, row["last_bad_run"] or 0)
        return cls(row["records_in"], *runs)

    def columns(self) -> dict[str, int]:
        """Its columns of LEDGER_SCHEMA."""
        return {"longest_bad_run": self.longest, "first_bad_run": self.first, "last_bad_run": self.last}

    def __add__(self, other: "BadRuns") -> "BadRuns":
        return BadRuns(
            records=self.records + other.records,
            longest=max(self.longest, other.longest, self.last + other.first),
            first=self.records + other.first if self.first == self.records else self.first,
            last=other.records + self.last if other.last == other.records else other.last,
        )
