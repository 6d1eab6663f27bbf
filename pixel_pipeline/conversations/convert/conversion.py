"""Conversion of a raw object to conversations, quarantine rows and one ledger entry."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from pixel_pipeline.conversations.containers.container import PROBE_BYTES, Opened, Opening, Range
from pixel_pipeline.conversations.containers.opening import open_container
from pixel_pipeline.conversations.containers.ranges import open_range
from pixel_pipeline.conversations.convert.batch import BatchBuilder, Conversation, ConvertedBatch
from pixel_pipeline.conversations.convert.detection import SAMPLE_RECORDS, UNREADABLE, UNRECOGNISED
from pixel_pipeline.conversations.convert.lanes.choice import Lanes
from pixel_pipeline.conversations.convert.lanes.lane import Lane
from pixel_pipeline.conversations.convert.ledger import LedgerEntry
from pixel_pipeline.conversations.formats import metadata
from pixel_pipeline.conversations.formats.fields import describe_keys
from pixel_pipeline.conversations.formats.known import Format, find_format, refusal
from pixel_pipeline.conversations.model.columns import Ints
from pixel_pipeline.conversations.model.records import Block, Fault, ObjectError, Record, RecordError
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.threads.sessions import sessions_of

BATCH_RECORDS = 2_000
BATCH_SIZE = 1 << 20
"""Characters and raw bytes after which a batch is complete before it has BATCH_RECORDS rows."""

Look = Callable[[Opened], Opened]


class UnalignedRange(Exception):
    """A range does not end where a record ends, or its rest cannot be read: the whole object has to be converted."""


def convert_object(
    source: SourceObject,
    stream: BinaryIO,
    *,
    opening: Opening | None = None,
    start: int = 0,
    last: bool = True,
    look: Look | None = None,
) -> "Conversion":
    """Convert one raw object, or a range of its bytes.

    Args:
        source: The object and the family it belongs to.
        stream: Its bytes from the first on; Parquet is read in place if the stream is seekable.
        opening: Only for a range, which should begin and end where records do: `stream` then contains that range alone.
        start: Offset of the range's first byte.
        last: Whether the range ends where the object ends.
        look: Gets the object as it was opened, before anything is read, and returns the part of it to convert.

    Returns:
        An iterable of ConvertedBatch, to be consumed once; its `ledger` is complete afterwards. The same bytes give equal batches.
        Bad records and unreadable objects become quarantine rows, not exceptions. Errors of `stream` itself are raised unchanged,
        and UnalignedRange if no record ends with the range.
    """

    def open_object(repaired: Counter[str]) -> tuple[Opened, Range | None]:
        if opening is not None:
            return open_range(opening, stream, start=start, last=last, repaired=repaired)
        return open_container(source, stream, repaired=repaired, all_candidates=look is not None), None

    return Conversion(source, open_object, look)


class Conversion:
    """One object being converted. Iterate it once, then read `ledger`."""

    def __init__(
        self,
        source: SourceObject,
        open_object: Callable[[Counter[str]], tuple[Opened, Range | None]],
        look: Look | None,
    ) -> None:
        self._source = source
        self._open_object = open_object
        self._look = look
        self._range: Range | None = None
        self._entry = LedgerEntry(source)
        self._builder = BatchBuilder(source, self._entry)
        self._lanes = Lanes(source)
        self._state = "new"

    @property
    def ledger(self) -> LedgerEntry:
        """The object's ledger entry.

        Raises:
            RuntimeError: The batches have not been consumed to the end.
        """
        if self._state != "done":
            raise RuntimeError(
                "The ledger is complete only after every batch was consumed: iterate the conversion first."
            )
        return self._entry

    def __iter__(self) -> Iterator[ConvertedBatch]:
        if self._state != "new":
            raise RuntimeError("A conversion reads its stream once: call convert_object again.")
        self._state = "running"
        try:
            yield from self._read()
        except ObjectError as error:
            yield from self._quarantine_object(error)
        if self._range is not None and not self._range.ends_at_boundary:
            raise UnalignedRange
        yield from self._flush()
        if self._entry.unlisted:
            yield self._builder.take_unlisted()
        self._state = "done"

    def _read(self) -> Iterator[ConvertedBatch]:
        entry = self._entry
        try:
            opened, self._range = self._open_object(entry.repaired)
        except ObjectError as error:
            entry.detection.container_why = error.reason
            raise
        entry.container, entry.encoding = opened.name, opened.encoding
        entry.detection.opened(opened)
        yield from self._read_opened(opened if self._look is None else self._look(opened))

    def _read_opened(self, opened: Opened) -> Iterator[ConvertedBatch]:
        if opened.members is not None:
            yield from self._read_members(opened.members)
            return
        if opened.dropped is not None:
            self._entry.count_dropped(opened.dropped)
            return
        yield from self._flush()
        self._builder.position_kind = opened.position_kind
        for item in opened.records:
            if isinstance(item, Block):
                yield from self._convert_block(item)
            else:
                self._convert_item(item)
            if self._is_full():
                yield self._builder.take()

    def _read_members(
        self, members: Iterator[tuple[str, int, Opened | ObjectError]]
    ) -> Iterator[ConvertedBatch]:
        """Read the members of an archive, each as an object of its own; a bad member does not affect the others."""
        builder = self._builder
        outer, outer_size = builder.member, builder.whole_size
        for name, size, opened in members:
            yield from self._flush()
            builder.member, builder.whole_size = name if outer is None else f"{outer}/{name}", size
            self._lanes = Lanes(self._source)
            try:
                if isinstance(opened, ObjectError):
                    raise opened
                yield from self._read_opened(opened)
            except ObjectError as error:
                yield from self._quarantine_object(error)
            # The archive itself may be damaged behind this member.
            yield from self._flush()
            builder.member, builder.whole_size = outer, outer_size

    def _flush(self) -> Iterator[ConvertedBatch]:
        """Complete the batch: the rows of one batch have the same member and kind of position."""
        if self._builder.rows:
            yield self._builder.take()

    def _is_full(self) -> bool:
        return self._builder.rows >= BATCH_RECORDS or self._builder.size >= BATCH_SIZE

    def _convert_block(self, block: Block) -> Iterator[ConvertedBatch]:
        yield from self._flush()
        repaired, builder = self._entry.repaired, self._builder
        for stretch in self._lanes.read(block, member=builder.member):
            # Runs of records in the lane, and between them single records that are converted one by one.
            done = stretch.start
            taken = 0
            for index in [*(stretch.start + np.flatnonzero(~stretch.in_lane)).tolist(), stretch.end]:
                if index > done and stretch.rows is not None and stretch.lane is not None:
                    self._sample(block.positions[done:index], stretch.lane)
                    self._entry.count_converted(index - done, stretch.lane.format_name)
                    builder.add_rows(stretch.rows.slice(taken, index - done))
                    taken += index - done
                done = index + 1
                if index < stretch.end:
                    self._convert_item(block.record(index, repaired))
                    if self._is_full():
                        yield builder.take()
        yield from self._flush()

    def _sample(self, positions: Ints, lane: Lane) -> None:
        """Add the records of a lane that belong to the sample of the detection."""
        if not self._in_sample(int(positions[0])):
            return
        if self._builder.member is None:
            within = int(np.searchsorted(positions, PROBE_BYTES))
        else:
            within = min(len(positions), SAMPLE_RECORDS - self._entry.records_in)
        self._entry.detection.add(lane.format_name, lane.keys, records=within)

    def _in_sample(self, position: int) -> bool:
        """Whether the next record, at a position, belongs to the sample of the detection."""
        if self._builder.position_kind == "byte" and self._builder.member is None:
            return position < PROBE_BYTES
        return self._entry.records_in < SAMPLE_RECORDS

    def _convert_item(self, item: Record | Fault) -> None:
        if isinstance(item, Record):
            self._convert_record(item)
            return
        self._count(item, UNREADABLE)
        error = RecordError(item.error_class, item.reason)
        self._builder.quarantine(position=item.position, raw=item.raw, raw_size=item.raw_size, error=error)

    def _convert_record(self, record: Record) -> None:
        only = self._source.options.format
        source_format = find_format(record.value, only=only)
        try:
            sessions = sessions_of(record.value) if source_format is None else None
        except RecordError as error:
            self._count(record, UNRECOGNISED)
            self._builder.quarantine_record(record, error)
            return
        if sessions is None:
            self._convert_one(record, source_format, None)
            return
        for sub_index, value in enumerate(sessions.values):
            context = sessions.context_of(sub_index, record.context)
            # The record's own bytes contain all sessions; each is quarantined with its own.
            session = Record(record.position, value, None, context)
            self._convert_one(session, find_format(value, only=only), sub_index)

    def _convert_one(self, record: Record, source_format: Format | None, sub_index: int | None) -> None:
        self._count(record, UNRECOGNISED if source_format is None else source_format.name)
        try:
            if source_format is None:
                raise self._no_format(record)
            parsed = source_format.convert(record.value)
            language, rest = metadata.split_language(parsed.metadata)
            described = metadata.dump({**rest, **record.context} if record.context else rest)
        except RecordError as error:
            self._builder.quarantine_record(record, error)
            return
        self._builder.add_conversation(
            Conversation(
                record=record,
                sub_index=sub_index,
                format_name=source_format.name,
                roles=[role for role, _ in parsed.messages],
                contents=[content for _, content in parsed.messages],
                reasoning=parsed.reasoning,
                language=language,
                metadata=described,
                tags=parsed.tags,
                repaired=parsed.repaired,
            )
        )

    def _count(self, record: Record | Fault, vote: str) -> None:
        if self._in_sample(record.position):
            value = record.value if isinstance(record, Record) else None
            self._entry.detection.add(vote, value if isinstance(value, dict) else ())
        self._entry.records_in += 1

    def _no_format(self, record: Record) -> RecordError:
        only = self._source.options.format
        if only is None:
            return refusal(record.value)
        found = describe_keys(record.value)
        return RecordError(
            "override_mismatch",
            f"the rule in families.yaml says format: {only}, which does not match {found}",
        )

    def _quarantine_object(self, error: ObjectError) -> Iterator[ConvertedBatch]:
        """Quarantine an object or member whose rest cannot be read."""
        yield from self._flush()
        self._entry.records_in += 1
        self._builder.position_kind = "object"
        self._builder.quarantine(position=0, raw=None, raw_size=self._builder.whole_size, error=error)
