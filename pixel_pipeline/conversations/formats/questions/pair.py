"""One question and one answer, under one of many pairs of names; `history` and `system` optional."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import key_names
from pixel_pipeline.conversations.formats.questions.parts import Parts, convert_parts
from pixel_pipeline.conversations.model.records import Parsed

NAME = "pair"
_PAIRS = (
    ("prompt", "response"), ("prompt", "completion"), ("prompt", "answer"), ("question", "answer"), ("question", "response"),
    ("context", "response"), ("query", "response"), ("query", "answer"), ("input", "output"), ("input", "response"),
    ("user", "assistant"), ("human", "assistant"), ("patient", "doctor"), ("client", "therapist"), ("questiontext", "answertext"),
    ("q", "a"), ("问题", "回答"), ("问题", "答案"),
)  # fmt: skip


def parts_of(names: dict[str, str]) -> Parts | None:
    """Return the keys of a record with these `key_names`, or None."""
    for question, answer in _PAIRS:
        if question in names and answer in names:
            system, history = names.get("system"), names.get("history")
            return Parts(names[question], names[answer], system=system, history=history)
    return None


def matches(record: Any) -> bool:
    parts = parts_of(key_names(record)) if isinstance(record, dict) else None
    # A prompt that is itself a list of turns, or an answer in parts, belongs to another format.
    return parts is not None and not any(isinstance(record[key], list | dict) for key in parts[:2])


def convert(record: Any) -> Parsed:
    parts = parts_of(key_names(record))
    assert parts is not None
    return convert_parts(record, parts)
