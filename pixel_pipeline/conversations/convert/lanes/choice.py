"""A fast path for records that look alike: from their bytes straight into columns, a block of records at a time.

Most records of most files are clean, complete and have the same shape as the previous one. The slow path (test every format, clean,
validate, one record after the other) is taken once to find the lane of such records. Arrow then reads only records of exactly that
shape, and defects are found for the whole block at once. A record that does not fit is returned to the slow path. The results of
both paths are identical.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.convert.lanes import parts, turn_lists
from pixel_pipeline.conversations.convert.lanes.lane import Lane
from pixel_pipeline.conversations.convert.lanes.reading import read_columns
from pixel_pipeline.conversations.convert.rows import conversation_rows, repeated, unready
from pixel_pipeline.conversations.model.columns import Flags
from pixel_pipeline.conversations.model.identity import record_ids
from pixel_pipeline.conversations.model.records import Block, Record
from pixel_pipeline.conversations.model.source import SourceObject

# After this many blocks in a row without a lane, the search ends.
_MOST_MISSES = 8
_LEAST_IN_LANE = 0.5
# A block that cannot be read as a whole is split into parts, which are split again down to so many records.
_PARTS = 8
_FEWEST = 4
_MOST_FAILURES = 24


class Stretch(NamedTuple):
    """Consecutive records of a block.

    Attributes:
        start, end: Indices of the records.
        in_lane: Flags the records in `rows`; the others take the slow path.
        rows: Rows of CONVERSATION_SCHEMA, one for each record in the lane, or None.
        lane: Their lane.
    """

    start: int
    end: int
    in_lane: Flags
    rows: pa.RecordBatch | None = None
    lane: Lane | None = None

    @classmethod
    def slow(cls, start: int, end: int) -> "Stretch":
        """Records that all take the slow path."""
        return cls(start, end, np.zeros(end - start, np.bool_))


class Lanes:
    """Chooses the lane of one object's records, block by block."""

    def __init__(self, source: SourceObject) -> None:
        self._source = source
        self._lane: Lane | None = None
        self._misses = 0
        self._failures = 0

    def read(self, block: Block, *, member: str | None) -> Iterator[Stretch]:
        """Read a block; each record is in exactly one stretch, in order."""
        n = len(block.starts)
        if self._misses > _MOST_MISSES or not n:
            yield Stretch.slow(0, n)
            return
        if self._lane is None:
            self._lane = lane_of(block, self._source)
        taken = self._failures = 0
        for stretch in self._stretches(block, 0, n, member):
            taken += 0 if stretch.rows is None else stretch.rows.num_rows
            yield stretch
        if taken > _LEAST_IN_LANE * n:
            self._misses = 0
        else:
            self._lane = self._lane and self._lane.less_strict()
            self._misses += 1

    def _stretches(self, block: Block, start: int, end: int, member: str | None) -> Iterator[Stretch]:
        if self._lane is None or self._failures > _MOST_FAILURES:
            yield Stretch.slow(start, end)
            return
        stretch = self._read(self._lane, block, start, end, member)
        if stretch is not None:
            yield stretch
            return
        self._failures += 1
        if end - start <= _FEWEST:
            yield Stretch.slow(start, end)
            return
        edges = np.linspace(start, end, min(_PARTS, end - start) + 1).astype(int).tolist()
        for first, last in pairwise(edges):
            yield from self._stretches(block, first, last, member)

    def _read(self, lane: Lane, block: Block, start: int, end: int, member: str | None) -> Stretch | None:
        """Read records in a lane; None if they do not all have its shape."""
        source = self._source
        # Before Arrow sees the records: it would recurse without limit into nested values that it does not expect.
        described = lane.metadata.of_bytes(block, start, end)
        columns = read_columns(block, start, end, lane.schema, strict=lane.metadata.is_complete)
        if columns is None:
            return None
        if described is None:
            described = lane.metadata.of_columns(columns, block, start)
        spoken = lane.spoken(columns)
        flags = spoken.flags | described.flags | unready(spoken.turns, source.options)
        if block.irregular is not None:
            flags |= block.irregular[start:end]
        positions = block.positions[start:end]
        if flags.all():
            return Stretch.slow(start, end)
        if flags.any():
            spoken, described, positions = spoken.only(~flags), described.only(~flags), positions[~flags]
        rows = conversation_rows(
            source,
            spoken.turns,
            ids=record_ids(key=source.key, positions=positions.tolist(), member=member),
            positions=positions,
            position_kind="byte",
            member=member,
            formats=repeated(lane.format_name, len(positions)),
            languages=described.languages,
            reasonings=spoken.reasonings,
            metadata=described.metadata,
        )
        return Stretch(start, end, ~flags, rows, lane)


def lane_of(block: Block, source: SourceObject) -> Lane | None:
    """Return the lane of a block's first record; None if records like it take the slow path."""
    record = block.record(0, {})
    if not isinstance(record, Record) or not isinstance(record.value, dict):
        return None
    return turn_lists.lane_of(record.value, source.options) or parts.lane_of(record.value, source.options)
