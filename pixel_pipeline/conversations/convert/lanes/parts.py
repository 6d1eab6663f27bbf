"""The lane of records with a question and an answer under keys of their own, and maybe a thought, a context or a system text."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.conversations.convert.lanes.lane import Columns, Lane, LaneRecords
from pixel_pipeline.conversations.convert.lanes.lane_metadata import ColumnMetadata, Described, metadata_of
from pixel_pipeline.conversations.formats.fields import key_names
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.formats.questions import alpaca, chain_of_thought, pair, preference, prompts
from pixel_pipeline.conversations.formats.questions.parts import Parts
from pixel_pipeline.conversations.model.columns import Flags, Texts, blank, dirty, nulls_of
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.turns import ROLE_CODES, Turns, bounds_of

_FORMATS = {module.NAME: module.parts_of for module in (pair, alpaca, chain_of_thought)}
_WHITE_SPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
_ROLES = np.array([ROLE_CODES["system"], ROLE_CODES["user"], ROLE_CODES["assistant"]], np.uint8)


def lane_of(record: dict[str, Any], options: ConversionOptions) -> "PartsLane | None":
    """Return the lane of records like this one, or None."""
    names = key_names(record)
    source_format = find_format(record, only=options.format)
    if source_format is None or source_format.name not in _FORMATS or len(names) != len(record):
        return None
    parts = _FORMATS[source_format.name](names)
    if parts is None or "history" in names or preference.may_match(names):
        return None
    if parts.thought is not None and options.reasoning == "think":
        return None
    used = [key for key in parts if key is not None]
    metadata = metadata_of(record, {*used})
    # A nested value may be a conversation of its own: keys alone determine the format only if all values are plain.
    if not isinstance(metadata, ColumnMetadata) or not all(isinstance(record[key], str) for key in used):
        return None
    fields = tuple(pa.field(key, pa.string()) for key in used)
    return PartsLane(source_format.name, tuple(record), fields, metadata, parts)


@dataclass(frozen=True)
class PartsLane(Lane):
    """The lane of records with the same keys, whose parts are all texts."""

    parts: Parts

    def records(self, columns: Columns, described: Described) -> LaneRecords:
        question, answer = columns[self.parts.question], columns[self.parts.answer]
        thought, context, system = (None if key is None else columns[key] for key in self.parts[2:5])
        n = len(question)
        flags = nulls_of(question) | nulls_of(answer)
        if context is not None:
            flags |= blank(Texts(question))
            is_given = pa.array(~blank(Texts(context)))
            question = pc.if_else(is_given, pc.binary_join_element_wise(question, context, "\n\n"), question)
        question, answer = _without_nulls(question), _without_nulls(answer)
        flags |= ends_open(question)
        reasonings = pa.nulls(n, pa.string())
        if thought is not None:
            reasonings, missing = thought, blank(Texts(thought))
            flags |= nulls_of(thought) | dirty(Texts(thought))
            if missing.any():
                reasonings = pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), thought)
        parts, present = [question, answer], np.ones((n, 2), np.bool_)
        if system is not None:
            parts = [_without_nulls(system), *parts]
            present = np.column_stack([~blank(Texts(parts[0])), present])
        indices = np.arange(n)[:, None] + n * np.arange(len(parts))
        roles = np.broadcast_to(_ROLES[-len(parts) :], indices.shape)
        contents = pa.concat_arrays(parts).take(pa.array(indices[present]))
        turns = Turns(roles[present], Texts(contents), bounds_of(present.sum(1)))
        return LaneRecords(
            turns, reasonings, described.metadata, described.languages, flags | described.flags
        )


def ends_open(questions: pa.Array) -> Flags:
    """Flag the questions that may end in an open dialogue (`prompts`)."""
    trimmed = pc.utf8_rtrim(questions, characters=_WHITE_SPACE)
    ends = [pc.ends_with(trimmed, end).to_numpy(zero_copy_only=False) for end in prompts.OPEN_ENDS]
    flags: Flags = np.logical_or.reduce(ends)
    return flags


def _without_nulls(array: pa.Array) -> pa.Array:
    return array.fill_null("") if array.null_count else array
