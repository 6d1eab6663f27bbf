"""Two passes over the canonical tables: decide what stays, then stream what stays."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

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
"""One row a dropped conversation: why (`exact_duplicate`, `near_duplicate`, `preference`), in favour of which, Jaccard
similarity 0 to 1. A side of a comparison (`preference`) is no conversation to learn to say; it is dropped for none, so the
id is its own."""

RECIPE_VERSION = "curation-1"
"""Raise it when the same conversations are curated otherwise: everything is then curated again."""


@dataclass(frozen=True)
class Decision:
    """What stays and what goes.

    Attributes:
        kept: ids that stay.
        dropped: Table of DROPPED_SCHEMA.
        records_in: Conversations by family before curation.
        records_out: Conversations by family after it.
    """

    kept: set[str]
    dropped: pa.Table
    records_in: Counter[str] = field(default_factory=Counter)
    records_out: Counter[str] = field(default_factory=Counter)

    def dropped_counts(self) -> dict[str, dict[str, int]]:
        """`{family: {reason: n}}`."""
        counts: dict[str, dict[str, int]] = {}
        for family, reason in zip(
            self.dropped["family"].to_pylist(), self.dropped["reason"].to_pylist(), strict=True
        ):
            by_reason = counts.setdefault(family, {})
            by_reason[reason] = by_reason.get(reason, 0) + 1
        return counts


def decide(conversations: ds.Dataset) -> Decision:
    """Find exact and near duplicates.

    Conversations are taken in the order of their source key and position, so the outcome does not depend on how the
    tables are laid out in files; of equals the first stays.

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
    )
    order = order.take(
        pc.sort_indices(
            order, sort_keys=[("key", "ascending"), ("position", "ascending"), ("id", "ascending")]
        )
    )
    ids: list[str] = order["id"].to_pylist()
    families: list[str] = order["family"].to_pylist()
    first_by_digest: dict[bytes, int] = {}
    near = NearDuplicateIndex()
    kept: set[str] = set()
    twins: dict[int, NearDuplicate] = {}
    dropped: list[tuple[str, str, str, str, float]] = []
    records_out: Counter[str] = Counter()
    tags_of = order["tags"].to_pylist()
    for position, (messages, tags) in enumerate(zip(_conversations(order["messages"]), tags_of, strict=True)):
        if PREFERENCE in tags:
            dropped.append((ids[position], families[position], PREFERENCE, ids[position], 0.0))
            continue
        first = first_by_digest.setdefault(spoken_digest(messages), position)
        # What equals a dropped near copy goes with it, in favour of the same one: `kept_id` names what is kept.
        twin = near.add(position, _text(messages)) if first == position else twins.get(first)
        if twin is not None:
            twins[position] = twin
            dropped.append(
                (ids[position], families[position], "near_duplicate", ids[twin.kept], twin.similarity)
            )
        elif first != position:
            dropped.append((ids[position], families[position], "exact_duplicate", ids[first], 1.0))
        else:
            kept.add(ids[position])
            records_out[families[position]] += 1
    columns = list(zip(*dropped, strict=True)) or [()] * len(DROPPED_SCHEMA)
    return Decision(
        kept=kept,
        dropped=pa.table(
            [pa.array(column, type=f.type) for column, f in zip(columns, DROPPED_SCHEMA, strict=True)],
            schema=DROPPED_SCHEMA,
        ),
        records_in=Counter(families),
        records_out=records_out,
    )


def curated_batches(conversations: ds.Dataset, decision: Decision) -> pa.RecordBatchReader:
    """Stream the conversations that stay, with their split, as CURATED_SCHEMA."""
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


def _conversations(messages: pa.ChunkedArray) -> Iterator[list[dict[str, str]]]:
    for chunk in messages.chunks:
        yield from chunk.to_pylist()


def _text(messages: list[dict[str, str]]) -> str:
    return "\n".join(message["content"] for message in messages)
