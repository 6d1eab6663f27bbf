"""Collects the records of one object and turns them into Arrow batches."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.convert.ledger import LedgerEntry
from pixel_pipeline.conversations.convert.refused import Refused
from pixel_pipeline.conversations.convert.rows import NO_CONVERSATIONS, conversation_rows, unready
from pixel_pipeline.conversations.formats import metadata
from pixel_pipeline.conversations.formats.thoughts import with_thought
from pixel_pipeline.conversations.formats.validation import validated
from pixel_pipeline.conversations.model.columns import dirty, texts_of
from pixel_pipeline.conversations.model.identity import record_ids
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.records import Parsed, Record, RecordError
from pixel_pipeline.conversations.model.schema import QUARANTINE_RAW_BYTES, TAGS_TYPE
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.model.turns import Turns
from pixel_pipeline.conversations.text.cleaning import clean


class ConvertedBatch(NamedTuple):
    """A bounded part of the result of one object. Either side may have no rows.

    Attributes:
        conversations: Rows of CONVERSATION_SCHEMA.
        quarantine: Rows of QUARANTINE_SCHEMA.
    """

    conversations: pa.RecordBatch
    quarantine: pa.RecordBatch


@dataclass(slots=True)
class Conversation:
    """A conversation that is not a row yet.

    Attributes:
        record: The record it came from.
        sub_index: Its index among several conversations of one record.
        format_name: Name of its format.
        parsed: Its turns and reasoning; cleaned and validated only if necessary.
        language: BCP 47 tag.
        metadata: JSON object.
        error: Why it is refused after all.
    """

    record: Record
    sub_index: int | None
    format_name: str
    parsed: Parsed
    language: str | None
    metadata: str
    error: RecordError | None = None

    def settle(self, options: ConversionOptions) -> None:
        """Clean and validate the conversation, or set `error`."""
        repaired = dict(self.parsed.repaired)
        try:
            messages = [(role, clean(content, repaired)) for role, content in self.parsed.messages]
            messages = validated(messages, repaired, options)
        except RecordError as error:
            self.error = error
            return
        reasoning = clean(self.parsed.reasoning, repaired) if self.parsed.reasoning else None
        self.parsed = self.parsed._replace(messages=messages, reasoning=reasoning, repaired=repaired)

    def think(self) -> None:
        """Move the reasoning into the last answer, if there is one."""
        messages = self.parsed.messages
        answers = [index for index, (role, _) in enumerate(messages) if role == "assistant"]
        if self.parsed.reasoning and answers:
            role, content = messages[answers[-1]]
            messages = list(messages)
            messages[answers[-1]] = (role, with_thought(self.parsed.reasoning, content))
            self.parsed = self.parsed._replace(messages=messages, reasoning=None)


class BatchBuilder:
    """Collects the records of one object in order, and turns them into rows a batch at a time.

    Texts are cleaned and conversations validated only when a batch is taken: most need neither, and the few that do are found
    for the whole batch at once (`rows.unready`).

    Attributes:
        position_kind: Unit of the records' positions.
        member: The archive member being read, None if the object is not an archive.
        whole_size: Size in bytes of the object or member.
        rows: Conversations and quarantine rows collected since the last `take`.
        size: Characters and raw bytes collected since then: bounds memory, and keeps each column below 2 GiB.
    """

    def __init__(self, source: SourceObject, entry: LedgerEntry) -> None:
        self.position_kind = "object"
        self.member: str | None = None
        self.whole_size = source.size
        self.rows = self.size = 0
        self._source = source
        self._entry = entry
        self._refused = Refused(source, entry)
        # In the order of the object: conversations, finished rows, and quarantine rows.
        self._items: list[Conversation | pa.RecordBatch | dict[str, Any]] = []

    def add_conversation(self, conversation: Conversation) -> None:
        """Add a conversation."""
        parsed = conversation.parsed
        self._items.append(conversation)
        self.rows += 1
        self.size += sum(len(content) for _, content in parsed.messages)
        self.size += len(conversation.metadata) + len(parsed.reasoning or "")

    def add_rows(self, rows: pa.RecordBatch) -> None:
        """Add finished rows that are already counted; positions of all others in the batch are byte offsets."""
        self._items.append(rows)
        self.rows += rows.num_rows

    def quarantine_record(self, record: Record, error: RecordError) -> None:
        """Add a record that cannot become a conversation."""
        raw = self._raw(record)
        self.quarantine(position=record.position, raw=raw, raw_size=len(raw or b""), error=error)

    def quarantine(self, *, position: int, raw: bytes | None, raw_size: int, error: RecordError) -> None:
        """Add a quarantine row."""
        row = self._quarantine_row(position=position, raw=raw, raw_size=raw_size, error=error)
        self._items.append(row)
        self.rows += 1
        self.size += len(row["raw_bytes"] or b"")

    def _raw(self, record: Record) -> bytes | None:
        if record.raw is None and self.position_kind != "object":
            return metadata.raw_json(record.value)
        return record.raw

    def _quarantine_row(
        self, *, position: int, raw: bytes | None, raw_size: int, error: RecordError
    ) -> dict[str, Any]:
        is_whole = self.position_kind == "object"
        return {
            "position": position,
            "position_kind": self.position_kind,
            "member": self.member,
            "raw_bytes": None if is_whole or raw is None else raw[:QUARANTINE_RAW_BYTES],
            "raw_size": self.whole_size if is_whole else raw_size,
            "error_class": error.error_class,
            "reason": error.reason,
            "records": 1,
        }

    def take(self) -> ConvertedBatch:
        """Return what was collected as a batch, and start the next one."""
        conversations = [item for item in self._items if isinstance(item, Conversation)]
        turns = self._settled(conversations)
        conversations = [conversation for conversation in conversations if conversation.error is None]
        bad: list[bool] = []
        refused: list[dict[str, Any]] = []
        finished: list[pa.RecordBatch] = []
        for item in self._items:
            if isinstance(item, pa.RecordBatch):
                finished.append(item)
                bad += [False] * item.num_rows
                continue
            if isinstance(item, Conversation) and item.error is not None:
                raw = self._raw(item.record)
                item = self._quarantine_row(
                    position=item.record.position, raw=raw, raw_size=len(raw or b""), error=item.error
                )
            bad.append(isinstance(item, dict))
            if isinstance(item, dict):
                refused.append(item)
        for conversation in conversations:
            self._entry.repaired.update(conversation.parsed.repaired)
        self._entry.records_out += len(conversations)
        self._entry.formats.update(conversation.format_name for conversation in conversations)
        if conversations:
            finished.append(self._conversation_rows(conversations, turns))
        self._items = []
        self.rows = self.size = 0
        quarantine = self._refused.take(np.array(bad, np.bool_), refused)
        if len(finished) < 2:
            return ConvertedBatch(finished[0] if finished else NO_CONVERSATIONS, quarantine)
        rows = pa.concat_batches(finished)
        if conversations:
            positions = rows["source"].field("position").to_numpy()
            rows = rows.take(pa.array(np.argsort(positions, kind="stable")))
        return ConvertedBatch(rows, quarantine)

    def take_unlisted(self) -> ConvertedBatch:
        """Return the quarantine rows that stand for many records, after the whole object was read."""
        return ConvertedBatch(NO_CONVERSATIONS, self._refused.unlisted())

    def _settled(self, conversations: list[Conversation]) -> Turns:
        """Clean and validate the conversations that need it, and return the turns of all that are not refused."""
        options = self._source.options
        reasonings = {
            index: conversation.parsed.reasoning
            for index, conversation in enumerate(conversations)
            if conversation.parsed.reasoning
        }
        try:
            turns = Turns.of([conversation.parsed.messages for conversation in conversations])
            flags = unready(turns, options)
            flags[np.fromiter(reasonings, np.int64)[dirty(texts_of([*reasonings.values()]))]] = True
        except UnicodeEncodeError:
            # A text has a lone surrogate.
            flags = np.ones(len(conversations), np.bool_)
        for index in np.flatnonzero(flags).tolist():
            conversations[index].settle(options)
        thinking = options.reasoning == "think" and bool(reasonings)
        if thinking:
            for index in reasonings:
                conversations[index].think()
        if thinking or flags.any():
            turns = Turns.of([item.parsed.messages for item in conversations if item.error is None])
        return turns

    def _conversation_rows(self, conversations: list[Conversation], turns: Turns) -> pa.RecordBatch:
        positions = [conversation.record.position for conversation in conversations]
        sub_indices = [conversation.sub_index for conversation in conversations]
        return conversation_rows(
            self._source,
            turns,
            ids=record_ids(
                key=self._source.key, positions=positions, sub_indices=sub_indices, member=self.member
            ),
            positions=positions,
            position_kind=self.position_kind,
            member=self.member,
            formats=pa.array([conversation.format_name for conversation in conversations], pa.string()),
            languages=pa.array([conversation.language for conversation in conversations], pa.string()),
            reasonings=pa.array(
                [conversation.parsed.reasoning for conversation in conversations], pa.string()
            ),
            tags=pa.array([conversation.parsed.tags for conversation in conversations], TAGS_TYPE),
            metadata=pa.array([conversation.metadata for conversation in conversations], pa.string()),
        )
