"""A lane: the columns that records of one shape are read into, and their turns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import pyarrow as pa

from pixel_pipeline.conversations.convert.lanes.lane_metadata import Described, LaneMetadata
from pixel_pipeline.conversations.model.columns import Flags
from pixel_pipeline.conversations.model.turns import Turns

Columns = Mapping[str, pa.Array]


class LaneRecords(NamedTuple):
    """Many records, column by column.

    Attributes:
        turns: Their turns.
        reasonings: One a record, or null.
        metadata: One JSON object a record.
        languages: One a record, or null.
        flags: Flags records that need the slow path.
    """

    turns: Turns
    reasonings: pa.Array
    metadata: pa.Array
    languages: pa.Array
    flags: Flags

    def only(self, kept: Flags) -> "LaneRecords":
        """Keep the flagged records."""
        reasonings, metadata, languages = (array.filter(pa.array(kept)) for array in self[1:4])
        return LaneRecords(self.turns.only(kept), reasonings, metadata, languages, self.flags[kept])


@dataclass(frozen=True)
class Lane(ABC):
    """One shape of records.

    Attributes:
        format_name: The format of all of them.
        keys: The keys of each of them.
        fields: The columns of their turns.
        metadata: How their metadata is made.
    """

    format_name: str
    keys: tuple[str, ...]
    fields: tuple[pa.Field, ...]
    metadata: LaneMetadata

    @property
    def schema(self) -> pa.Schema:
        """The columns to read."""
        return pa.schema([*self.fields, *self.metadata.fields])

    @abstractmethod
    def records(self, columns: Columns, described: Described) -> LaneRecords:
        """Read records from columns of `schema`; their metadata is given."""

    def less_strict(self) -> Self | None:
        """Return a lane that accepts more variation among the records, if there is one."""
        return None
