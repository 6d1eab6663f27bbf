"""A lane: the columns that records of one shape are read into, and their turns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.convert.lanes.lane_metadata import LaneMetadata
from pixel_pipeline.conversations.model.columns import Flags
from pixel_pipeline.conversations.model.turns import Turns

Columns = Mapping[str, pa.Array]


class Spoken(NamedTuple):
    """The turns of many records.

    Attributes:
        turns: The turns.
        reasonings: One a record, or null.
        flags: Flags records that need the slow path.
    """

    turns: Turns
    reasonings: pa.Array
    flags: Flags

    def only(self, kept: Flags) -> "Spoken":
        """Keep the flagged records."""
        return Spoken(self.turns.only(kept), self.reasonings.filter(pa.array(kept)), self.flags[kept])


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
    def spoken(self, columns: Columns) -> Spoken:
        """Return the turns of records, from columns of `schema`."""

    def less_strict(self) -> Self | None:
        """Return a lane that accepts more variation among the records, if there is one."""
        return None


def nulls_of(array: pa.Array) -> Flags:
    """Flag the null values."""
    if not array.null_count:
        return np.zeros(len(array), np.bool_)
    flags: Flags = array.is_null().to_numpy(zero_copy_only=False)
    return flags
