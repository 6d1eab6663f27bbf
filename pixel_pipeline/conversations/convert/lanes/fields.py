"""Records with a question and an answer in fields of their own, maybe with a thought, an input or a system text."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.conversations.convert.lanes.besides import Besides, PlainBesides, besides_of
from pixel_pipeline.conversations.convert.lanes.shape import Columns, Lane, Said, bounds_of, nulls_of
from pixel_pipeline.conversations.formats.fields import key_names
from pixel_pipeline.conversations.formats.known import find_format
from pixel_pipeline.conversations.formats.questions import (
    alpaca,
    chain_of_thought,
    pair,
    preference,
    prompts,
)
from pixel_pipeline.conversations.model.columns import WHITE_SPACE, Endings, Flags, Texts, blank, dirty
from pixel_pipeline.conversations.model.identity import ROLE_CODES
from pixel_pipeline.conversations.model.options import ConversionOptions

_ENDS = Endings([*prompts.OPEN_ENDS, *WHITE_SPACE])
_ROLES = np.array([ROLE_CODES["system"], ROLE_CODES["user"], ROLE_CODES["assistant"]], np.uint8)


class Fields(NamedTuple):
    """The record's own keys of its parts, where it has them."""

    question: str
    answer: str
    thought: str | None = None
    context: str | None = None
    system: str | None = None


def lane_of(record: dict[str, Any], options: ConversionOptions) -> "FieldLane | None":
    """The lane of records like this one; None where they have none."""
    names = key_names(record)
    source_format = find_format(record, only=options.format)
    if (
        source_format is None
        or len(names) != len(record)
        or "history" in names
        or preference.may_match(names)
    ):
        return None
    thought = context = None
    if source_format.name == pair.NAME:
        question, answer = pair.keys_of(names) or (None, None)
    elif source_format.name == alpaca.NAME:
        question, answer = alpaca.keys_of(names)
        context = names.get("input")
    elif source_format.name == chain_of_thought.NAME and options.reasoning == "apart":
        question, thought, answer = chain_of_thought.keys_of(names)
        context = chain_of_thought.context_of(names, question)
    else:
        return None
    if question is None or answer is None:
        return None
    fields = Fields(question, answer, thought, context, names.get("system"))
    used = [key for key in fields if key is not None]
    besides = besides_of(record, {*used})
    # What is nested may be a conversation of its own: keys alone tell the format only where nothing is.
    if not isinstance(besides, PlainBesides) or not all(isinstance(record[key], str) for key in used):
        return None
    return FieldLane(source_format.name, tuple(record), fields=fields, besides=besides)


class FieldLane(Lane):
    """The lane of records with the same fields, all of them texts."""

    def __init__(self, format_name: str, keys: tuple[str, ...], *, fields: Fields, besides: Besides) -> None:
        self._fields = fields
        texts = [pa.field(key, pa.string()) for key in fields if key is not None]
        super().__init__(format_name, keys, texts, besides)

    def said(self, columns: Columns) -> Said:
        question, answer = columns[self._fields.question], columns[self._fields.answer]
        thought, context, system = (None if key is None else columns[key] for key in self._fields[2:])
        n = len(question)
        flags = nulls_of(question) | nulls_of(answer)
        if context is not None:
            flags |= blank(Texts(question))
            is_given = pa.array(~blank(Texts(context)))
            question = pc.if_else(is_given, pc.binary_join_element_wise(question, context, "\n\n"), question)
        question, answer = _without_nulls(question), _without_nulls(answer)
        flags |= _may_be_dialogues(Texts(question))
        reasonings = pa.nulls(n, pa.string())
        if thought is not None:
            texts = Texts(thought)
            flags |= nulls_of(thought) | dirty(texts)
            absent = blank(texts)
            reasonings = (
                pc.if_else(pa.array(absent), pa.scalar(None, pa.string()), thought)
                if absent.any()
                else thought
            )
        parts, present = [question, answer], np.ones((n, 2), np.bool_)
        if system is not None:
            parts = [_without_nulls(system), *parts]
            present = np.column_stack([~blank(Texts(parts[0])), present])
        places = np.arange(n)[:, None] + n * np.arange(len(parts))
        roles = np.broadcast_to(_ROLES[-len(parts) :], places.shape)
        contents = pa.concat_arrays(parts).take(pa.array(places[present]))
        return Said(roles[present], Texts(contents), bounds_of(present.sum(1)), reasonings, flags)


def _may_be_dialogues(questions: Texts) -> Flags:
    """Which questions may leave a dialogue open (`prompts`): few texts end so."""
    flags = np.zeros(len(questions.array), np.bool_)
    for row in _ENDS.of(questions).tolist():
        flags[row] = questions.array[row].as_py().rstrip().endswith(prompts.OPEN_ENDS)
    return flags


def _without_nulls(array: pa.Array) -> pa.Array:
    return array.fill_null("") if array.null_count else array
