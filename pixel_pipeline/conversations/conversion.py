"""From a raw object to canonical conversations, quarantine and one ledger entry."""

from collections.abc import Iterator
from typing import BinaryIO

from pixel_pipeline.conversations import metadata
from pixel_pipeline.conversations.batch import BatchBuilder, ConvertedBatch
from pixel_pipeline.conversations.bundles import sessions_of
from pixel_pipeline.conversations.code_version import CODE_VERSION
from pixel_pipeline.conversations.containers import open_container
from pixel_pipeline.conversations.containers.opened import Opened
from pixel_pipeline.conversations.formats import Format, find_format
from pixel_pipeline.conversations.formats.fields import describe_keys
from pixel_pipeline.conversations.ledger import LedgerEntry
from pixel_pipeline.conversations.records import Fault, ObjectError, Record, RecordError
from pixel_pipeline.conversations.source import SourceObject
from pixel_pipeline.conversations.text import clean
from pixel_pipeline.conversations.validation import validated

__all__ = ["CODE_VERSION", "Conversion", "ConvertedBatch", "LedgerEntry", "convert_object"]

BATCH_RECORDS = 2_000
BATCH_SIZE = 64 << 20
"""Characters and raw bytes after which a batch is handed out before it has BATCH_RECORDS rows."""


def convert_object(source: SourceObject, stream: BinaryIO) -> "Conversion":
    """Converts one raw object.

    Args:
        source: The object, and the family it belongs to.
        stream: Its bytes from the first on; a Parquet object is read in place when the stream can seek.

    Returns:
        An iterable of ConvertedBatch, to be consumed once; its `ledger` is complete afterwards. The same
        bytes give equal batches. Bad records and unreadable objects are quarantine rows, never exceptions;
        errors of `stream` itself pass.
    """
    return Conversion(source, stream)


class Conversion:
    """One object on its way. Iterate it once, then read `ledger`."""

    def __init__(self, source: SourceObject, stream: BinaryIO) -> None:
        self._source = source
        self._stream = stream
        self._entry = LedgerEntry(source)
        self._builder = BatchBuilder(source)
        self._kind = "object"
        self._member: str | None = None
        self._size = source.size
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
            self._quarantine_object(error)
        if self._builder.rows:
            yield self._builder.take()
        self._state = "done"

    def _read(self) -> Iterator[ConvertedBatch]:
        opened = open_container(self._source, self._stream, repaired=self._entry.repaired)
        self._entry.container, self._entry.encoding = opened.name, opened.encoding
        yield from self._read_members(opened) if opened.members is not None else self._read_opened(opened)

    def _read_members(self, archive: Opened) -> Iterator[ConvertedBatch]:
        """Reads the members of an archive, each as an object of its own: one that is bad does not end the others."""
        outer, outer_size = self._member, self._size
        for name, size, opened in archive.members or ():
            self._member, self._size = name if outer is None else f"{outer}/{name}", size
            try:
                if isinstance(opened, ObjectError):
                    raise opened
                if opened.members is not None:
                    yield from self._read_members(opened)
                else:
                    yield from self._read_opened(opened)
            except ObjectError as error:
                self._quarantine_object(error)
            # The archive itself may turn out to be damaged behind this member.
            self._member, self._size = outer, outer_size

    def _read_opened(self, opened: Opened) -> Iterator[ConvertedBatch]:
        entry, builder = self._entry, self._builder
        if opened.dropped is not None:
            entry.records_in += 1
            entry.dropped[opened.dropped] += 1
            return
        self._kind = opened.position_kind
        for item in opened.records:
            if isinstance(item, Fault):
                self._quarantine_fault(item)
            else:
                self._convert_record(item)
            if builder.rows >= BATCH_RECORDS or builder.size >= BATCH_SIZE:
                yield builder.take()

    def _convert_record(self, record: Record) -> None:
        source_format = find_format(record.value)
        try:
            sessions = sessions_of(record.value) if source_format is None else None
        except RecordError as error:
            self._entry.records_in += 1
            self._quarantine_record(record, error)
            return
        if sessions is not None:
            for sub_index, value in enumerate(sessions.values):
                context = sessions.context_of(sub_index, record.context)
                # The record's own bytes hold all sessions; each is quarantined with its own.
                part = Record(record.position, value, None, context)
                self._convert_one(part, find_format(value), sub_index)
        else:
            self._convert_one(record, source_format, None)

    def _convert_one(self, record: Record, source_format: Format | None, sub_index: int | None) -> None:
        self._entry.records_in += 1
        try:
            self._convert(record, source_format, sub_index)
        except RecordError as error:
            self._quarantine_record(record, error)

    def _convert(self, record: Record, source_format: Format | None, sub_index: int | None) -> None:
        if source_format is None:
            raise RecordError("unrecognised_schema", f"no format matches {describe_keys(record.value)}")
        parsed = source_format.convert(record.value)
        repaired = dict(parsed.repaired)
        messages = validated(
            [(role, clean(content, repaired)) for role, content in parsed.messages], repaired
        )
        language, besides = metadata.split_language(parsed.metadata)
        if record.context is not None:
            besides = {**besides, **record.context}
        self._builder.add_conversation(
            messages,
            position=record.position,
            position_kind=self._kind,
            sub_index=sub_index,
            format_name=source_format.name,
            language=language,
            reasoning=clean(parsed.reasoning, repaired) if parsed.reasoning else None,
            metadata=metadata.dump(besides),
            tags=parsed.tags,
            member=self._member,
        )
        # Only now: a record that failed on the way has no repairs to report.
        self._entry.repaired.update(repaired)
        self._entry.records_out += 1
        self._entry.formats[source_format.name] += 1

    def _quarantine_record(self, record: Record, error: RecordError) -> None:
        raw = record.raw
        if raw is None and self._kind != "object":
            raw = metadata.raw_json(record.value)
        self._quarantine(position=record.position, raw=raw, raw_size=len(raw or b""), error=error)

    def _quarantine_fault(self, fault: Fault) -> None:
        self._entry.records_in += 1
        self._quarantine(
            position=fault.position,
            raw=fault.raw,
            raw_size=fault.raw_size,
            error=RecordError(fault.error_class, fault.reason),
        )

    def _quarantine_object(self, error: ObjectError) -> None:
        self._entry.records_in += 1
        self._kind = "object"
        self._quarantine(position=0, raw=None, raw_size=self._size, error=error)

    def _quarantine(self, *, position: int, raw: bytes | None, raw_size: int, error: RecordError) -> None:
        whole = self._kind == "object"
        self._entry.quarantined += 1
        self._builder.add_quarantine(
            position=position,
            position_kind=self._kind,
            member=self._member,
            raw=None if whole else raw,
            raw_size=self._size if whole else raw_size,
            error_class=error.error_class,
            reason=error.reason,
        )
