"""Columns of a batch in the making: plain lists while records come, looked at and turned into Arrow arrays once it is full."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pixel_pipeline.conversations.convert.ledger import LedgerEntry
from pixel_pipeline.conversations.convert.refused import Refused
from pixel_pipeline.conversations.formats import metadata
from pixel_pipeline.conversations.formats.thoughts import thinking
from pixel_pipeline.conversations.formats.validation import validated
from pixel_pipeline.conversations.model.columns import Flags, Ints, Texts, blank, dirty, texts_of
from pixel_pipeline.conversations.model.identity import ROLE_CODES, content_hashes, record_id
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.records import Record, RecordError
from pixel_pipeline.conversations.model.schema import (
    CONVERSATION_SCHEMA,
    MESSAGE_TYPE,
    MESSAGES_TYPE,
    SOURCE_TYPE,
    TAGS_TYPE,
)
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.text.cleaning import clean

_NO_CONVERSATIONS = pa.RecordBatch.from_pylist([], schema=CONVERSATION_SCHEMA)
_ROLE_NAMES = pa.array(list(ROLE_CODES), pa.string())
_SYSTEM, _USER, _ASSISTANT = ROLE_CODES["system"], ROLE_CODES["user"], ROLE_CODES["assistant"]


class ConvertedBatch(NamedTuple):
    """A bounded part of what one object became. Either side may have no rows.

    Attributes:
        conversations: Rows of CONVERSATION_SCHEMA.
        quarantine: Rows of QUARANTINE_SCHEMA.
    """

    conversations: pa.RecordBatch
    quarantine: pa.RecordBatch


class Conversation(NamedTuple):
    """A conversation but for its turns.

    Attributes:
        record: The record it came from.
        sub_index: Its place among several conversations of one record.
        reasoning: Chain of thought as it stands in the source.
        metadata: JSON object.
        repaired: Changes made so far, by kind.
    """

    record: Record
    sub_index: int | None
    format_name: str
    language: str | None
    reasoning: str | None
    metadata: str
    repaired: Mapping[str, int]
    tags: tuple[str, ...]


class BatchBuilder:
    """Collects what the records of one object say, and settles it a batch at a time.

    Texts are cleaned and conversations validated only here: most need neither, and which do is found out for the whole
    batch at once (`columns`).

    Attributes:
        position_kind: Unit of the records' positions.
        member: Of an archive, what is read at present. None where the object is no archive.
        whole_size: Size in bytes of the object or member.
        rows: Conversations and quarantine rows collected since the last `take`.
        size: Characters and raw bytes collected since then: bounds memory, and keeps each column below 2 GiB.
    """

    def __init__(self, source: SourceObject, entry: LedgerEntry) -> None:
        self.position_kind = "object"
        self.member: str | None = None
        self.whole_size = source.size
        self._source = source
        self._entry = entry
        self._refused = Refused(source, entry)
        self._clear()

    def _clear(self) -> None:
        self.rows = 0
        self.size = 0
        self._conversations: list[Conversation] = []
        self._lengths: list[int] = []
        self._roles: list[str] = []
        self._contents: list[str] = []
        # Rows that are done, and how many conversations stand before each of them.
        self._done: list[pa.RecordBatch] = []
        self._done_rows = 0
        self._before: list[tuple[int, int]] = []
        # Of the conversation that is looked at when a batch is settled.
        self._settling: int | None = None

    def add_conversation(
        self, conversation: Conversation, *, roles: Sequence[str], contents: Sequence[str]
    ) -> None:
        """Adds a conversation: one canonical role and one text a turn."""
        self._conversations.append(conversation)
        self._lengths.append(len(roles))
        self._roles += roles
        self._contents += contents
        self.rows += 1
        self.size += sum(map(len, contents)) + len(conversation.metadata) + len(conversation.reasoning or "")

    def add_rows(self, rows: pa.RecordBatch) -> None:
        """Adds conversations that are rows already, and counted; the positions of all others in the batch are byte offsets."""
        self._before.append((len(self._conversations), self._done_rows))
        self._done.append(rows)
        self._done_rows += rows.num_rows
        self.rows += rows.num_rows

    def quarantine_record(self, record: Record, error: RecordError) -> None:
        """Adds a record that cannot become a conversation."""
        raw = record.raw
        if raw is None and self.position_kind != "object":
            raw = metadata.raw_json(record.value)
        self.quarantine(position=record.position, raw=raw, raw_size=len(raw or b""), error=error)

    def quarantine(self, *, position: int, raw: bytes | None, raw_size: int, error: RecordError) -> None:
        """Adds a record to what is quarantined."""
        self.size += self._refused.add(
            position=position,
            position_kind=self.position_kind,
            member=self.member,
            raw=raw,
            raw_size=self.whole_size if self.position_kind == "object" else raw_size,
            error=error,
            place=self._place(),
            late=self._settling is not None,
        )
        self.rows += 1

    def _place(self) -> int:
        """How many conversations of the batch stand before the present one."""
        if self._settling is None:
            return len(self._conversations) + self._done_rows
        # Rows added when so many conversations had come stand before the next one.
        added = bisect_right(self._before, self._settling, key=itemgetter(0))
        done = self._before[added][1] if added < len(self._before) else self._done_rows
        return self._settling + done

    def take(self) -> ConvertedBatch:
        """Settles what was collected and returns it; starts anew."""
        arrived = len(self._conversations) + self._done_rows
        texts = self._settled() if self._conversations else texts_of([])
        for conversation in self._conversations:
            if conversation.repaired:
                self._entry.repaired.update(conversation.repaired)
        self._entry.records_out += len(self._conversations)
        self._entry.formats.update(conversation.format_name for conversation in self._conversations)
        batch = ConvertedBatch(self._all_rows(texts), self._refused.take(arrived))
        self._clear()
        return batch

    def take_unlisted(self) -> ConvertedBatch:
        """What is quarantined without a row of its own, once the whole object was read."""
        return ConvertedBatch(_NO_CONVERSATIONS, self._refused.unlisted())

    def _settled(self) -> Texts:
        """The texts of all turns, once every conversation is clean and valid."""
        thoughts = {
            index: conversation.reasoning
            for index, conversation in enumerate(self._conversations)
            if conversation.reasoning
        }
        try:
            texts = texts_of(self._contents)
            flagged = flagged_conversations(
                self._role_codes(), texts, bounds=self._turn_bounds(), options=self._source.options
            )
            flagged[np.fromiter(thoughts, np.int64)[dirty(texts_of([*thoughts.values()]))]] = True
        except UnicodeEncodeError:
            # A lone surrogate somewhere.
            flagged = np.ones(len(self._conversations), np.bool_)
        if flagged.any():
            self._settle(np.flatnonzero(flagged).tolist())
            texts = texts_of(self._contents)
        if self._source.options.reasoning == "think" and self._think():
            texts = texts_of(self._contents)
        return texts

    def _think(self) -> bool:
        """Puts the reasoning of each conversation in front of its last answer; returns whether there is any."""
        bounds = self._turn_bounds().tolist()
        thoughtful = [
            (index, conversation.reasoning)
            for index, conversation in enumerate(self._conversations)
            if conversation.reasoning
        ]
        for index, reasoning in thoughtful:
            turns = range(bounds[index], bounds[index + 1])
            answer = max((turn for turn in turns if self._roles[turn] == "assistant"), default=None)
            if answer is None:
                continue
            self._contents[answer] = thinking(reasoning, self._contents[answer])
            self._conversations[index] = self._conversations[index]._replace(reasoning=None)
        return bool(thoughtful)

    def _settle(self, flagged: list[int]) -> None:
        """Cleans and validates the flagged conversations one by one; those that fail go to quarantine."""
        bounds = self._turn_bounds().tolist()
        conversations, lengths, roles, contents = (
            self._conversations,
            self._lengths,
            self._roles,
            self._contents,
        )
        self._conversations, self._lengths, self._roles, self._contents = [], [], [], []
        done = 0
        for index in [*flagged, len(conversations)]:
            self._conversations += conversations[done:index]
            self._lengths += lengths[done:index]
            self._roles += roles[bounds[done] : bounds[index]]
            self._contents += contents[bounds[done] : bounds[index]]
            done = index + 1
            if index == len(conversations):
                break
            conversation, turns = conversations[index], slice(bounds[index], bounds[index + 1])
            repaired = dict(conversation.repaired)
            try:
                messages = validated(
                    [
                        (role, clean(content, repaired))
                        for role, content in zip(roles[turns], contents[turns], strict=True)
                    ],
                    repaired,
                    self._source.options,
                )
            except RecordError as error:
                self._settling = index
                self.quarantine_record(conversation.record, error)
                continue
            reasoning = clean(conversation.reasoning, repaired) if conversation.reasoning else None
            self._conversations.append(conversation._replace(reasoning=reasoning, repaired=repaired))
            self._lengths.append(len(messages))
            self._roles += [role for role, _ in messages]
            self._contents += [content for _, content in messages]

    def _turn_bounds(self) -> Ints:
        """First turn of each conversation, and the number of turns."""
        bounds = np.zeros(len(self._lengths) + 1, np.int64)
        np.cumsum(self._lengths, out=bounds[1:])
        return bounds

    def _role_codes(self) -> npt.NDArray[np.uint8]:
        return np.fromiter(map(ROLE_CODES.__getitem__, self._roles), np.uint8, len(self._roles))

    def _all_rows(self, texts: Texts) -> pa.RecordBatch:
        parts = self._done if not self._conversations else [*self._done, self._conversation_rows(texts)]
        if len(parts) < 2:
            return parts[0] if parts else _NO_CONVERSATIONS
        rows = pa.concat_batches(parts)
        if parts is self._done:
            return rows
        positions = rows["source"].field("position").to_numpy()
        return rows.take(pa.array(np.argsort(positions, kind="stable")))

    def _conversation_rows(self, texts: Texts) -> pa.RecordBatch:
        conversations = self._conversations
        ids = [
            record_id(
                key=self._source.key,
                position=conversation.record.position,
                sub_index=conversation.sub_index,
                member=self.member,
            )
            for conversation in conversations
        ]
        return conversation_rows(
            self._source,
            ids=ids,
            positions=[conversation.record.position for conversation in conversations],
            position_kind=self.position_kind,
            member=self.member,
            roles=self._role_codes(),
            texts=texts,
            bounds=self._turn_bounds(),
            formats=pa.array([conversation.format_name for conversation in conversations], pa.string()),
            languages=[conversation.language for conversation in conversations],
            reasonings=[conversation.reasoning for conversation in conversations],
            tags=pa.array([conversation.tags for conversation in conversations], TAGS_TYPE),
            metadata=[conversation.metadata for conversation in conversations],
        )


def conversation_rows(
    source: SourceObject,
    *,
    ids: Sequence[str],
    positions: Sequence[int] | Ints,
    position_kind: str,
    member: str | None,
    roles: npt.NDArray[np.uint8],
    texts: Texts,
    bounds: Ints,
    formats: pa.Array,
    languages: Sequence[str | None] | pa.Array,
    reasonings: Sequence[str | None] | pa.Array,
    metadata: Sequence[str] | pa.Array,
    tags: pa.Array | None = None,
) -> pa.RecordBatch:
    """Rows of CONVERSATION_SCHEMA.

    Args:
        roles: ROLE_CODES of all turns.
        texts: Contents of all turns.
        bounds: First turn of each conversation, and the number of turns.
    """
    n = len(ids)
    turns = pa.StructArray.from_arrays(
        [_ROLE_NAMES.take(pa.array(roles)), texts.array], fields=list(MESSAGE_TYPE)
    )
    places = pa.StructArray.from_arrays(
        [
            repeated(source.bucket, n),
            repeated(source.key, n),
            repeated(source.etag, n),
            pa.array(positions, pa.int64()),
            repeated(position_kind, n),
            formats,
            pa.nulls(n, pa.string()) if member is None else repeated(member, n),
        ],
        fields=list(SOURCE_TYPE),
    )
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.string()),
        "messages": pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), turns, type=MESSAGES_TYPE),
        "category": repeated(source.category, n),
        "family": repeated(source.family, n),
        "dataset": repeated(source.dataset, n),
        "source": places,
        "content_hash": pa.array(content_hashes(roles, texts, bounds=bounds), pa.string()),
        "language": _text_array(languages),
        "tags": tags if tags is not None else _no_tags(n),
        "reasoning": _text_array(reasonings),
        "metadata": _text_array(metadata),
    }
    return pa.RecordBatch.from_arrays(
        [columns[name] for name in CONVERSATION_SCHEMA.names], schema=CONVERSATION_SCHEMA
    )


def flagged_conversations(
    roles: npt.NDArray[np.uint8], texts: Texts, *, bounds: Ints, options: ConversionOptions
) -> Flags:
    """Conversations that need cleaning, joining or refusing; arguments as of `conversation_rows`."""
    opening = np.zeros(len(roles) + 1, np.bool_)
    opening[bounds[:-1]] = True
    wrong = dirty(texts) | blank(texts) | ((roles == _SYSTEM) & ~opening[:-1])
    wrong[1:] |= (roles[1:] == roles[:-1]) & ~opening[1:-1]
    flags = np.zeros(len(bounds) - 1, np.bool_)
    flags[np.searchsorted(bounds, np.flatnonzero(wrong), side="right") - 1] = True
    sides = (roles == _USER, roles == _ASSISTANT)
    for needed in (sides[0] | sides[1],) if options.one_sided == "keep" else sides:
        before = np.concatenate([[0], np.cumsum(needed)])
        flags |= before[bounds[1:]] == before[bounds[:-1]]
    if options.longest is not None:
        # In bytes, of which there are at least as many.
        flags |= np.diff(texts.offsets[bounds]) > options.longest
    return flags


def _text_array(values: Sequence[str | None] | pa.Array) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, pa.string())


def _no_tags(n: int) -> pa.Array:
    return pa.ListArray.from_arrays(
        pa.array(np.zeros(n + 1, np.int32)), pa.array([], pa.string()), type=TAGS_TYPE
    )


def repeated(value: str, n: int) -> pa.Array:
    """One text n times."""
    return pa.repeat(pa.scalar(value, pa.string()), n)
