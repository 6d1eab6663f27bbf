"""What a lane is: the columns that records are read into, and what these say."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pixel_pipeline.conversations.convert.lanes.besides import Besides
from pixel_pipeline.conversations.model.columns import Flags, Ints, Texts

Columns = Mapping[str, pa.Array]


class Said(NamedTuple):
    """The turns of many records.

    Attributes:
        roles: ROLE_CODES of all turns.
        texts: Contents of all turns.
        bounds: First turn of each record, and the number of turns.
        reasonings: One a record, or null.
        flags: Records that have to go the long way.
    """

    roles: npt.NDArray[np.uint8]
    texts: Texts
    bounds: Ints
    reasonings: pa.Array
    flags: Flags

    def without(self, flags: Flags) -> "Said":
        """Leaves records out."""
        lengths = np.diff(self.bounds)
        turns = np.repeat(~flags, lengths)
        kept = pa.array(~flags)
        return Said(
            self.roles[turns],
            Texts(self.texts.array.filter(pa.array(turns))),
            bounds_of(lengths[~flags]),
            self.reasonings.filter(kept),
            self.flags[~flags],
        )


class Lane(ABC):
    """One shape of records.

    Attributes:
        format_name: The format of all of them.
        keys: The keys that each of them has.
        schema: What Arrow is to find.
        besides: What they have besides their turns.
    """

    def __init__(
        self, format_name: str, keys: tuple[str, ...], fields: list[pa.Field], besides: Besides
    ) -> None:
        self.format_name = format_name
        self.keys = keys
        self.besides = besides
        self.schema = pa.schema([*fields, *besides.fields])

    @abstractmethod
    def said(self, columns: Columns) -> Said:
        """The turns of records, from columns of `schema`."""

    def rougher(self) -> Self | None:
        """A lane for records of the same shape that are less alike, where there is one."""
        return None


def bounds_of(lengths: Ints) -> Ints:
    """First turn of each record, and the number of turns, from how many turns each has."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def nulls_of(array: pa.Array) -> Flags:
    """Which values are null."""
    if not array.null_count:
        return np.zeros(len(array), np.bool_)
    flags: Flags = array.is_null().to_numpy(zero_copy_only=False)
    return flags
