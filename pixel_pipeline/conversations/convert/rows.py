"""Rows of CONVERSATION_SCHEMA, and which conversations need individual treatment before they become rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pixel_pipeline.conversations.model.columns import Flags, Ints, blank, dirty
from pixel_pipeline.conversations.model.identity import content_hashes
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.schema import (
    CONVERSATION_SCHEMA,
    MESSAGE_TYPE,
    MESSAGES_TYPE,
    SOURCE_TYPE,
    TAGS_TYPE,
)
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.model.turns import ROLE_CODES, Turns

NO_CONVERSATIONS = pa.RecordBatch.from_pylist([], schema=CONVERSATION_SCHEMA)
_ROLE_NAMES = pa.array(list(ROLE_CODES), pa.string())


def conversation_rows(
    source: SourceObject,
    turns: Turns,
    *,
    ids: Sequence[str],
    positions: Sequence[int] | Ints,
    position_kind: str,
    member: str | None,
    formats: pa.Array,
    languages: pa.Array,
    reasonings: pa.Array,
    metadata: pa.Array,
    tags: pa.Array | None = None,
) -> pa.RecordBatch:
    """Make rows of CONVERSATION_SCHEMA, one for each conversation."""
    n = len(ids)
    messages = pa.StructArray.from_arrays(
        [_ROLE_NAMES.take(pa.array(turns.roles)), turns.texts.array], fields=list(MESSAGE_TYPE)
    )
    origins = pa.StructArray.from_arrays(
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
    if tags is None:
        no_tags = pa.array(np.zeros(n + 1, np.int32))
        tags = pa.ListArray.from_arrays(no_tags, pa.array([], pa.string()), type=TAGS_TYPE)
    columns = {
        "id": pa.array(ids, pa.string()),
        "messages": pa.ListArray.from_arrays(
            pa.array(turns.bounds, pa.int32()), messages, type=MESSAGES_TYPE
        ),
        "category": repeated(source.category, n),
        "family": repeated(source.family, n),
        "dataset": repeated(source.dataset, n),
        "source": origins,
        "content_hash": pa.array(content_hashes(turns), pa.string()),
        "language": languages,
        "tags": tags,
        "reasoning": reasonings,
        "metadata": metadata,
    }
    return pa.RecordBatch.from_arrays(
        [columns[name] for name in CONVERSATION_SCHEMA.names], schema=CONVERSATION_SCHEMA
    )


def unready(turns: Turns, options: ConversionOptions) -> Flags:
    """Flag the conversations that need cleaning, joining or refusing."""
    roles, bounds = turns.roles, turns.bounds
    opening = np.zeros(len(roles) + 1, np.bool_)
    opening[bounds[:-1]] = True
    wrong = dirty(turns.texts) | blank(turns.texts) | ((roles == ROLE_CODES["system"]) & ~opening[:-1])
    wrong[1:] |= (roles[1:] == roles[:-1]) & ~opening[1:-1]
    flags = turns.conversations_with(wrong)
    sides = (roles == ROLE_CODES["user"], roles == ROLE_CODES["assistant"])
    for needed in (sides[0] | sides[1],) if options.one_sided == "keep" else sides:
        before = np.concatenate([[0], np.cumsum(needed)])
        flags |= before[bounds[1:]] == before[bounds[:-1]]
    if options.longest is not None:
        # Bytes: at least as many as characters.
        flags |= np.diff(turns.texts.offsets[bounds]) > options.longest
    return flags


def repeated(value: str, n: int) -> pa.Array:
    """One text n times."""
    return pa.repeat(pa.scalar(value, pa.string()), n)
