"""How many records in a row are bad, told of parts of an object so that it can be told of the whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixel_pipeline.conversations.model.columns import Flags


@dataclass(frozen=True, slots=True)
class BadRuns:
    """Records that went to quarantine one after the other, in a stretch of records.

    `first + second` is the stretch made of both: whichever way an object is cut, the sum of its parts is the same.

    Attributes:
        records: Length of the stretch.
        longest: Most bad records in a row.
        first: Bad records that it begins with.
        last: Bad records that it ends with.
    """

    records: int = 0
    longest: int = 0
    first: int = 0
    last: int = 0

    @classmethod
    def of(cls, bad: Flags) -> "BadRuns":
        """Of records in their order, which of them are bad."""
        # Each good record, and the ends, close a run.
        good = np.concatenate([[-1], np.flatnonzero(~bad), [len(bad)]])
        runs = np.diff(good) - 1
        return cls(len(bad), int(runs.max()), int(runs[0]), int(runs[-1]))

    @classmethod
    def none(cls, records: int) -> "BadRuns":
        """Of records none of which is bad."""
        return cls(records)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "BadRuns":
        """Of an object, by its row of LEDGER_SCHEMA."""
        return cls(
            row["records_in"],
            row["longest_bad_run"] or 0,
            row["first_bad_run"] or 0,
            row["last_bad_run"] or 0,
        )

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
