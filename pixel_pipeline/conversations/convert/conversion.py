"""From a raw object to canonical conversations, quarantine and one ledger entry."""

from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from pixel_pipeline.conversations.containers.opened import PROBE_BYTES, Opened, Opening
from pixel_pipeline.conversations.containers.opening import open_container
from pixel_pipeline.conversations.containers.openings import open_range
from pixel_pipeline.conversations.containers.ranges import Range
from pixel_pipeline.conversations.convert.batch import BatchBuilder, Conversation, ConvertedBatch
from pixel_pipeline.conversations.convert.detection import SAMPLE_RECORDS, UNREADABLE, UNRECOGNISED
from pixel_pipeline.conversations.convert.lanes.choice import Lanes
from pixel_pipeline.conversations.convert.lanes.shape import Lane
from pixel_pipeline.conversations.convert.ledger import LedgerEntry
from pixel_pipeline.conversations.formats import metadata
from pixel_pipeline.conversations.formats.fields import describe_keys
from pixel_pipeline.conversations.formats.known import Format, find_format, refusal
from pixel_pipeline.conversations.model.columns import Ints
from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline.conversations.model.records import Block, Fault, ObjectError, Record, RecordError
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.threads.sessions import sessions_of

__all__ = ["RECIPE_VERSION", "Conversion", "ConvertedBatch", "LedgerEntry", "convert_object"]

BATCH_RECORDS = 2_000
BATCH_SIZE = 1 << 20
"""Characters and raw bytes after which a batch is handed out before it has BATCH_RECORDS rows."""

Look = Callable[[Opened], Opened]


class UnalignedRange(Exception):
    """No record ends where a range does, or the rest of it cannot be read: the object has to be converted as a whole."""


def convert_object(
    source: SourceObject,
    stream: BinaryIO,
    *,
    opening: Opening | None = None,
    start: int = 0,
    last: bool = True,
    look: Look | None = None,
) -> "Conversion":
    """Converts one raw object, or a range of its bytes.

    Args:
        source: The object, and the family it belongs to.
        stream: Its bytes from the first on; a Parquet object is read in place when the stream can seek.
        opening: Given for a range, which is to begin and end where records do: `stream` is the bytes of that range alone.
        start: Offset of the range's first byte.
        last: The range ends where the object ends.
        look: Gets the object as it was opened, before anything of it is read, and returns what is to be converted of it.

    Returns:
        An iterable of ConvertedBatch, to be consumed once; its `ledger` is complete afterwards. The same
        bytes give equal batches. Bad records and unreadable objects are quarantine rows, never exceptions;
        errors of `stream` itself pass, and UnalignedRange where no record ends with
        the range.
    """
    return Conversion(source, stream, opening=opening, start=start, last=last, look=look)


class Conversion:
    """One object on its way. Iterate it once, then read `ledger`."""

    def __init__(
        self,
        source: SourceObject,
        stream: BinaryIO,
        *,
        opening: Opening | None,
        start: int,
        last: bool,
        look: Look | None,
    ) -> None:
        self._source = source
        self._stream = stream
        self._opening = opening
        self._start = start
        self._last = last
        self._look = look
        self._range: Range | None = None
        self._entry = LedgerEntry(source)
        self._builder = BatchBuilder(source, self._entry)
        self._lanes = Lanes(source)
        self._state = "new"

    @property
    def ledger(self) -> LedgerEntry:
        """The object's one ledger entry.

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
        if self._builder.rows:
            yield self._builder.take()
        if self._entry.unlisted:
            yield self._builder.take_unlisted()
        self._state = "done"

    def _read(self) -> Iterator[ConvertedBatch]:
        repaired = self._entry.repaired
        if self._opening is None:
            curious = self._look is not None
            try:
                opened = open_container(self._source, self._stream, repaired=repaired, curious=curious)
            except ObjectError as error:
                self._entry.detection.container_why = error.reason
                raise
        else:
            opened, self._range = open_range(
                self._opening, self._stream, start=self._start, last=self._last, repaired=repaired
            )
        self._entry.container, self._entry.encoding = opened.name, opened.encoding
        self._entry.detection.opened(opened)
        if self._look is not None:
            opened = self._look(opened)
        yield from self._read_members(opened) if opened.members is not None else self._read_opened(opened)

    def _read_members(self, archive: Opened) -> Iterator[ConvertedBatch]:
        """Reads the members of an archive, each as an object of its own: one that is bad does not end the others."""
        builder = self._builder
        outer, outer_size = builder.member, builder.whole_size
        for name, size, opened in archive.members or ():
            yield from self._flush()
            builder.member, builder.whole_size = name if outer is None else f"{outer}/{name}", size
            self._lanes = Lanes(self._source)
            try:
                if isinstance(opened, ObjectError):
                    raise opened
                if opened.members is not None:
                    yield from self._read_members(opened)
                else:
                    yield from self._read_opened(opened)
            except ObjectError as error:
                yield from self._quarantine_object(error)
            # The archive itself may turn out to be damaged behind this member.
            yield from self._flush()
            builder.member, builder.whole_size = outer, outer_size

    def _flush(self) -> Iterator[ConvertedBatch]:
        """Rows of a batch are of one member, and positions in it of one kind."""
        if self._builder.rows:
            yield self._builder.take()

    def _read_opened(self, opened: Opened) -> Iterator[ConvertedBatch]:
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

    def _is_full(self) -> bool:
        return self._builder.rows >= BATCH_RECORDS or self._builder.size >= BATCH_SIZE

    def _convert_block(self, block: Block) -> Iterator[ConvertedBatch]:
        yield from self._flush()
        repaired, builder = self._entry.repaired, self._builder
        for stretch in self._lanes.read(block, member=builder.member):
            # Runs of records in the lane, and between them single ones that go the long way.
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
        """Counts records in a lane into the sample, as far as they belong to it."""
        if not self._in_sample(int(positions[0])):
            return
        if self._builder.member is None:
            within = int(np.searchsorted(positions, PROBE_BYTES))
        else:
            within = min(len(positions), SAMPLE_RECORDS - self._entry.records_in)
        self._entry.detection.add(lane.format_name, lane.keys, records=within)

    def _in_sample(self, position: int) -> bool:
        """Whether the next record, at a position, is one that detection looks at."""
        if self._builder.position_kind == "byte" and self._builder.member is None:
            return position < PROBE_BYTES
        return self._entry.records_in < SAMPLE_RECORDS

    def _convert_item(self, item: Record | Fault) -> None:
        if isinstance(item, Fault):
            self._quarantine_fault(item)
        else:
            self._convert_record(item)

    def _convert_record(self, record: Record) -> None:
        only = self._source.options.format
        source_format = find_format(record.value, only=only)
        try:
            sessions = sessions_of(record.value) if source_format is None else None
        except RecordError as error:
            self._vote(record, UNRECOGNISED)
            self._entry.records_in += 1
            self._builder.quarantine_record(record, error)
            return
        if sessions is not None:
            for sub_index, value in enumerate(sessions.values):
                context = sessions.context_of(sub_index, record.context)
                # The record's own bytes hold all sessions; each is quarantined with its own.
                part = Record(record.position, value, None, context)
                self._convert_one(part, find_format(value, only=only), sub_index)
        else:
            self._convert_one(record, source_format, None)

    def _convert_one(self, record: Record, source_format: Format | None, sub_index: int | None) -> None:
        self._vote(record, UNRECOGNISED if source_format is None else source_format.name)
        self._entry.records_in += 1
        try:
            if source_format is None:
                raise self._no_format(record)
            parsed = source_format.convert(record.value)
            language, besides = metadata.split_language(parsed.metadata)
            if record.context is not None:
                besides = {**besides, **record.context}
            described = metadata.dump(besides)
        except RecordError as error:
            self._builder.quarantine_record(record, error)
            return
        self._builder.add_conversation(
            Conversation(
                record=record,
                sub_index=sub_index,
                format_name=source_format.name,
                language=language,
                reasoning=parsed.reasoning,
                metadata=described,
                repaired=parsed.repaired,
                tags=parsed.tags,
            ),
            roles=[role for role, _ in parsed.messages],
            contents=[content for _, content in parsed.messages],
        )

    def _vote(self, record: Record | Fault, vote: str) -> None:
        if self._in_sample(record.position):
            value = record.value if isinstance(record, Record) else None
            self._entry.detection.add(vote, value if isinstance(value, dict) else ())

    def _no_format(self, record: Record) -> RecordError:
        only = self._source.options.format
        if only is None:
            return refusal(record.value)
        found = describe_keys(record.value)
        return RecordError(
            "override_mismatch",
            f"the rule in families.yaml says format: {only}, which does not match {found}",
        )

    def _quarantine_fault(self, fault: Fault) -> None:
        self._vote(fault, UNREADABLE)
        self._entry.records_in += 1
        self._builder.quarantine(
            position=fault.position,
            raw=fault.raw,
            raw_size=fault.raw_size,
            error=RecordError(fault.error_class, fault.reason),
        )

    def _quarantine_object(self, error: ObjectError) -> Iterator[ConvertedBatch]:
        """The rest of an object or member cannot be read."""
        yield from self._flush()
        self._entry.records_in += 1
        self._builder.position_kind = "object"
        self._builder.quarantine(position=0, raw=None, raw_size=self._builder.whole_size, error=error)
