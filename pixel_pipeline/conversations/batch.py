"""Columns of a batch in the making: plain lists while records come, Arrow arrays once the batch is full."""

from typing import Any, NamedTuple

import pyarrow as pa

from pixel_pipeline.conversations.code_version import CODE_VERSION
from pixel_pipeline.conversations.identity import content_hash, record_id
from pixel_pipeline.conversations.records import Message
from pixel_pipeline.conversations.schema import (
    CONVERSATION_SCHEMA,
    MESSAGE_TYPE,
    MESSAGES_TYPE,
    QUARANTINE_RAW_BYTES,
    QUARANTINE_SCHEMA,
    SOURCE_TYPE,
    TAGS_TYPE,
)
from pixel_pipeline.conversations.source import SourceObject


class ConvertedBatch(NamedTuple):
    """A bounded part of what one object became. Either side may have no rows.

    Attributes:
        conversations: Rows of CONVERSATION_SCHEMA.
        quarantine: Rows of QUARANTINE_SCHEMA.
    """

    conversations: pa.RecordBatch
    quarantine: pa.RecordBatch


class BatchBuilder:
    """Collects rows of one object and turns them into a ConvertedBatch.

    Attributes:
        rows: Conversations and quarantine rows collected since the last `take`.
        size: Characters and raw bytes collected since then: bounds memory, and keeps each column below 2 GiB.
    """

    def __init__(self, source: SourceObject) -> None:
        self._source = source
        self._clear()

    def _clear(self) -> None:
        self.rows = 0
        self.size = 0
        self._ids: list[str] = []
        self._offsets: list[int] = [0]
        self._roles: list[str] = []
        self._contents: list[str] = []
        self._positions: list[int] = []
        self._kinds: list[str] = []
        self._formats: list[str] = []
        self._hashes: list[str] = []
        self._languages: list[str | None] = []
        self._reasonings: list[str | None] = []
        self._metadata: list[str] = []
        self._members: list[str | None] = []
        self._tags: list[tuple[str, ...]] = []
        self._quarantine: list[tuple[int, str, str | None, bytes | None, int, str, str]] = []

    def add_conversation(
        self,
        messages: list[Message],
        *,
        position: int,
        position_kind: str,
        sub_index: int | None,
        format_name: str,
        language: str | None,
        reasoning: str | None,
        metadata: str,
        tags: tuple[str, ...],
        member: str | None,
    ) -> None:
        """Adds one valid conversation."""
        self._ids.append(
            record_id(key=self._source.key, position=position, sub_index=sub_index, member=member)
        )
        self._members.append(member)
        size = len(metadata) + len(reasoning or "")
        for role, content in messages:
            self._roles.append(role)
            self._contents.append(content)
            size += len(content)
        self._offsets.append(len(self._roles))
        self._positions.append(position)
        self._kinds.append(position_kind)
        self._formats.append(format_name)
        self._hashes.append(content_hash(messages))
        self._languages.append(language)
        self._reasonings.append(reasoning)
        self._metadata.append(metadata)
        self._tags.append(tags)
        self.rows += 1
        self.size += size

    def add_quarantine(
        self,
        *,
        position: int,
        position_kind: str,
        member: str | None,
        raw: bytes | None,
        raw_size: int,
        error_class: str,
        reason: str,
    ) -> None:
        """Adds one record that did not become a conversation."""
        kept = None if raw is None else raw[:QUARANTINE_RAW_BYTES]
        self._quarantine.append((position, position_kind, member, kept, raw_size, error_class, reason))
        self.rows += 1
        self.size += len(kept or b"")

    def take(self) -> ConvertedBatch:
        """Returns what was collected, and starts anew."""
        batch = ConvertedBatch(self._conversations(), self._quarantined())
        self._clear()
        return batch

    def _conversations(self) -> pa.RecordBatch:
        source, n = self._source, len(self._ids)
        turns = pa.StructArray.from_arrays(
            [pa.array(self._roles, pa.string()), pa.array(self._contents, pa.string())],
            fields=list(MESSAGE_TYPE),
        )
        places = pa.StructArray.from_arrays(
            [
                _repeat(source.bucket, n),
                _repeat(source.key, n),
                _repeat(source.etag, n),
                pa.array(self._positions, pa.int64()),
                pa.array(self._kinds, pa.string()),
                pa.array(self._formats, pa.string()),
                pa.array(self._members, pa.string()),
            ],
            fields=list(SOURCE_TYPE),
        )
        columns: dict[str, Any] = {
            "id": pa.array(self._ids, pa.string()),
            "messages": pa.ListArray.from_arrays(
                pa.array(self._offsets, pa.int32()), turns, type=MESSAGES_TYPE
            ),
            "category": _repeat(source.category, n),
            "family": _repeat(source.family, n),
            "dataset": _repeat(source.dataset, n),
            "source": places,
            "content_hash": pa.array(self._hashes, pa.string()),
            "language": pa.array(self._languages, pa.string()),
            "tags": pa.array(self._tags, TAGS_TYPE),
            "reasoning": pa.array(self._reasonings, pa.string()),
            "metadata": pa.array(self._metadata, pa.string()),
        }
        return pa.RecordBatch.from_arrays(
            [columns[name] for name in CONVERSATION_SCHEMA.names], schema=CONVERSATION_SCHEMA
        )

    def _quarantined(self) -> pa.RecordBatch:
        source, rows = self._source, self._quarantine
        positions, kinds, members, raws, sizes, classes, reasons = (
            zip(*rows, strict=True) if rows else ((),) * 7
        )
        columns: dict[str, Any] = {
            "source_key": _repeat(source.key, len(rows)),
            "etag": _repeat(source.etag, len(rows)),
            "position": pa.array(positions, pa.int64()),
            "position_kind": pa.array(kinds, pa.string()),
            "member": pa.array(members, pa.string()),
            "raw_bytes": pa.array(raws, pa.binary()),
            "raw_size": pa.array(sizes, pa.int64()),
            "error_class": pa.array(classes, pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "family": _repeat(source.family, len(rows)),
            "code_version": _repeat(CODE_VERSION, len(rows)),
        }
        return pa.RecordBatch.from_arrays(
            [columns[name] for name in QUARANTINE_SCHEMA.names], schema=QUARANTINE_SCHEMA
        )


def _repeat(value: str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), n)
