"""Collects the records of one object and turns them into Arrow batches."""

from collections.abc import Mapping, Sequence
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
from pixel_pipeline.conversations.model.records import Record, RecordError
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
    """A conversation that is not a row yet. Flat, because many small objects slow down the garbage collector.

    Attributes:
        record: The record it came from.
        sub_index: Its index among several conversations of one record.
        format_name: Name of its format.
        roles, contents: Canonical role and text of each turn.
        reasoning: Chain of thought.
        language: BCP 47 tag.
        metadata: JSON object.
        tags: Its tags.
        repaired: Changes made so far, by kind.
        error: Why it is refused after all.
    """

    record: Record
    sub_index: int | None
    format_name: str
    roles: Sequence[str]
    contents: Sequence[str]
    reasoning: str | None
    language: str | None
    metadata: str
    tags: tuple[str, ...]
    repaired: Mapping[str, int]
    error: RecordError | None = None

    def settle(self, options: ConversionOptions) -> None:
        """Clean and validate the conversation, or set `error`."""
        repaired = dict(self.repaired)
        contents = [clean(content, repaired) for content in self.contents]
        try:
            messages = validated(list(zip(self.roles, contents, strict=True)), repaired, options)
        except RecordError as error:
            self.error = error
            return
        self.roles = [role for role, _ in messages]
        self.contents = [content for _, content in messages]
        self.reasoning = clean(self.reasoning, repaired) if self.reasoning else None
        self.repaired = repaired

    def think(self) -> None:
        """Move the reasoning into the last answer, if there is one."""
        answers = [index for index, role in enumerate(self.roles) if role == "assistant"]
        if self.reasoning and answers:
            contents = list(self.contents)
            contents[answers[-1]] = with_thought(self.reasoning, contents[answers[-1]])
            self.contents, self.reasoning = contents, None


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
        self._items.append(conversation)
        self.rows += 1
        self.size += sum(map(len, conversation.contents))
        self.size += len(conversation.metadata) + len(conversation.reasoning or "")

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
            self._entry.repaired.update(conversation.repaired)
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
        reasonings = {index: item.reasoning for index, item in enumerate(conversations) if item.reasoning}
        try:
            turns = Turns.of(
                [item.roles for item in conversations], [item.contents for item in conversations]
            )
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
            kept = [item for item in conversations if item.error is None]
            turns = Turns.of([item.roles for item in kept], [item.contents for item in kept])
        return turns

    def _conversation_rows(self, conversations: list[Conversation], turns: Turns) -> pa.RecordBatch:
        positions = [item.record.position for item in conversations]
        sub_indices = [item.sub_index for item in conversations]
        return conversation_rows(
            self._source,
            turns,
            ids=record_ids(
                key=self._source.key, positions=positions, sub_indices=sub_indices, member=self.member
            ),
            positions=positions,
            position_kind=self.position_kind,
            member=self.member,
            formats=pa.array([item.format_name for item in conversations], pa.string()),
            languages=pa.array([item.language for item in conversations], pa.string()),
            reasonings=pa.array([item.reasoning for item in conversations], pa.string()),
            tags=pa.array([item.tags for item in conversations], TAGS_TYPE),
            metadata=pa.array([item.metadata for item in conversations], pa.string()),
        )
