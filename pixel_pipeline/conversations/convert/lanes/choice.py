"""A short way for records that look alike: from their bytes straight into columns, a block of records at a time.

Most records of most files are clean, complete and made like the one before. For these the long way (ask every format,
clean, validate, one record after the other) is found out once and taken as given. Arrow reads only what is of exactly that
shape, and what is not in order is found for the whole block at once. Any record that is not is handed back, to go the long
way; what comes out is the same to the letter.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.convert.batch import conversation_rows, flagged_conversations, repeated
from pixel_pipeline.conversations.convert.lanes import fields, turns
from pixel_pipeline.conversations.convert.lanes.reading import read_columns
from pixel_pipeline.conversations.convert.lanes.shape import Lane
from pixel_pipeline.conversations.model.columns import Flags
from pixel_pipeline.conversations.model.identity import record_ids
from pixel_pipeline.conversations.model.records import Block, Record
from pixel_pipeline.conversations.model.source import SourceObject

# Blocks in a row without a lane, after which none is looked for any more.
_MOST_MISSES = 8
_LEAST_IN_LANE = 0.5
# Of a block that is not read as a whole, the parts that are not are cut again, down to so many records.
_PARTS = 8
_FEWEST = 4
_MOST_FAILURES = 24


class Stretch(NamedTuple):
    """What became of some records of a block that follow each other.

    Attributes:
        start, end: Which records.
        in_lane: Which of them are in `rows`; the others go the long way.
        rows: Rows of CONVERSATION_SCHEMA, one for each record in the lane. None where there are none.
        lane: Theirs.
    """

    start: int
    end: int
    in_lane: Flags
    rows: pa.RecordBatch | None = None
    lane: Lane | None = None


class Lanes:
    """The lanes of one object's records: the present one, and when to look for another."""

    def __init__(self, source: SourceObject) -> None:
        self._source = source
        self._lane: Lane | None = None
        self._misses = 0
        self._failures = 0

    def read(self, block: Block, *, member: str | None) -> Iterator[Stretch]:
        """Reads a block; its records come in their order, each in one stretch."""
        n = len(block.starts)
        if self._misses > _MOST_MISSES or not n:
            yield _long_way(0, n)
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
            self._lane = self._lane and self._lane.rougher()
            self._misses += 1

    def _stretches(self, block: Block, start: int, end: int, member: str | None) -> Iterator[Stretch]:
        if self._lane is None or self._failures > _MOST_FAILURES:
            yield _long_way(start, end)
            return
        stretch = self._read(self._lane, block, start, end, member)
        if stretch is not None:
            yield stretch
            return
        self._failures += 1
        if end - start <= _FEWEST:
            yield _long_way(start, end)
            return
        edges = np.linspace(start, end, min(_PARTS, end - start) + 1).astype(int).tolist()
        for first, last in pairwise(edges):
            yield from self._stretches(block, first, last, member)

    def _read(self, lane: Lane, block: Block, start: int, end: int, member: str | None) -> Stretch | None:
        """Records in a lane; None where they are not of its kind: nothing is known of any of them then."""
        source = self._source
        # Before Arrow sees them: of what it does not know, it is told only what is not nested without end.
        described = lane.besides.described(block, start, end)
        columns = read_columns(block, start, end, lane.schema, strict=lane.besides.is_known)
        if columns is None:
            return None
        if described is None:
            described = lane.besides.of_columns(columns, block, start)
        said = lane.said(columns)
        flags = said.flags | described.flags
        if block.odd is not None:
            flags |= block.odd[start:end]
        flags |= flagged_conversations(said.roles, said.texts, bounds=said.bounds, options=source.options)
        positions = block.positions[start:end]
        if flags.all():
            return _long_way(start, end)
        if flags.any():
            said, described, positions = said.without(flags), described.without(flags), positions[~flags]
        n = len(positions)
        rows = conversation_rows(
            source,
            ids=record_ids(key=source.key, positions=positions.tolist(), member=member),
            positions=positions,
            position_kind="byte",
            member=member,
            roles=said.roles,
            texts=said.texts,
            bounds=said.bounds,
            formats=repeated(lane.format_name, n),
            languages=described.languages,
            reasonings=said.reasonings,
            metadata=described.metadata,
        )
        return Stretch(start, end, ~flags, rows, lane)


def lane_of(block: Block, source: SourceObject) -> Lane | None:
    """The lane that the first record of a block lies in; None where it has to go the long way, and so have its like."""
    record = block.record(0, {})
    if not isinstance(record, Record) or not isinstance(record.value, dict):
        return None
    return turns.lane_of(record.value, source.options) or fields.lane_of(record.value, source.options)


def _long_way(start: int, end: int) -> Stretch:
    return Stretch(start, end, np.zeros(end - start, np.bool_))
