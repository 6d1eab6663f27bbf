"""Curate in two passes over the canonical tables: decide which conversations to keep, then stream them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pixel_pipeline.conversations.model.records import PREFERENCE
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA
from pixel_pipeline.curation.exact_duplicates import spoken_digest
from pixel_pipeline.curation.near_duplicates import NearDuplicate, NearDuplicateIndex
from pixel_pipeline.curation.splits import split_of

CURATED_SCHEMA = CONVERSATION_SCHEMA.append(pa.field("split", pa.string(), nullable=False))
"""A canonical conversation and its `split`: train, validation or test."""

DROPPED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("kept_id", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
    ]
)
"""One row per dropped conversation: reason (`exact_duplicate`, `near_duplicate`, `preference`), the conversation kept in its
place, Jaccard similarity 0 to 1. A side of a comparison (`preference`) must not be imitated; no other conversation replaces it,
so `kept_id` is its own id."""

RECIPE_VERSION = "curation-1"
"""Increase it when the result for the same conversations changes; everything is then curated again."""


@dataclass(frozen=True)
class Decision:
    """Which conversations are kept and dropped.

    Attributes:
        kept: Ids of the kept conversations.
        dropped: Table of DROPPED_SCHEMA.
        records_in: Conversations by family before curation.
    """

    kept: set[str]
    dropped: pa.Table
    records_in: Counter[str]

    @cached_property
    def records_out(self) -> Counter[str]:
        """Conversations by family after curation."""
        return self.records_in - Counter(self.dropped["family"].to_pylist())

    def dropped_counts(self) -> Mapping[str, Mapping[str, int]]:
        """Dropped conversations by family and reason."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for family, reason in zip(
            self.dropped["family"].to_pylist(), self.dropped["reason"].to_pylist(), strict=True
        ):
            counts[family][reason] += 1
        return counts


def decide(conversations: ds.Dataset) -> Decision:
    """Find exact and near duplicates.

    Conversations are visited in the order of source key and position, and the first of equals is kept, so the result does not
    depend on the tables' file layout.

    Args:
        conversations: Dataset of CONVERSATION_SCHEMA.
    """
    order = conversations.to_table(
        columns={
            "id": ds.field("id"),
            "key": ds.field("source", "key"),
            "position": ds.field("source", "position"),
            "family": ds.field("family"),
            "messages": ds.field("messages"),
            "tags": ds.field("tags"),
        }
    ).sort_by([("key", "ascending"), ("position", "ascending"), ("id", "ascending")])
    ids: list[str] = order["id"].to_pylist()
    first_by_digest: dict[bytes, int] = {}
    near = NearDuplicateIndex()
    kept: set[str] = set()
    twins: dict[int, NearDuplicate] = {}
    dropped: list[tuple[str, str, str, str, float]] = []
    for position, row in enumerate(_rows(order)):
        id_, family, messages = row["id"], row["family"], row["messages"]
        if PREFERENCE in row["tags"]:
            dropped.append((id_, family, PREFERENCE, id_, 0.0))
            continue
        first = first_by_digest.setdefault(spoken_digest(messages), position)
        if first == position:
            twin = near.add(position, "\n".join(message["content"] for message in messages))
        else:
            # A copy of a dropped near duplicate is dropped with it, so that `kept_id` always names a kept conversation.
            twin = twins.get(first)
        if twin is not None:
            twins[position] = twin
            dropped.append((id_, family, "near_duplicate", ids[twin.kept], twin.similarity))
        elif first != position:
            dropped.append((id_, family, "exact_duplicate", ids[first], 1.0))
        else:
            kept.add(id_)
    columns = zip(*dropped, strict=True) if dropped else [()] * len(DROPPED_SCHEMA)
    return Decision(
        kept=kept,
        dropped=pa.table([*map(pa.array, columns, DROPPED_SCHEMA.types)], schema=DROPPED_SCHEMA),
        records_in=Counter(order["family"].to_pylist()),
    )


def curated_batches(conversations: ds.Dataset, decision: Decision) -> pa.RecordBatchReader:
    """Stream the kept conversations with their splits, as CURATED_SCHEMA."""
    kept = pa.array(sorted(decision.kept), type=pa.string())

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in conversations.to_batches(columns=CONVERSATION_SCHEMA.names, batch_size=4096):
            batch = batch.filter(pc.is_in(batch["id"], value_set=kept))
            if batch.num_rows:
                splits = pa.array(
                    [split_of(value) for value in batch["content_hash"].to_pylist()], type=pa.string()
                )
                yield pa.RecordBatch.from_arrays([*batch.columns, splits], schema=CURATED_SCHEMA)

    return pa.RecordBatchReader.from_batches(CURATED_SCHEMA, batches())


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()
