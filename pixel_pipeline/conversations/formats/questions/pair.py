"""One question and one answer, under one of many pairs of names; `history` and `system` optional."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import besides, key_names, optional_text, text_of
from pixel_pipeline.conversations.formats.questions.prompts import prompted_turns
from pixel_pipeline.conversations.formats.turn_lists.history import history_messages
from pixel_pipeline.conversations.model.records import Message, Parsed

NAME = "pair"
_PAIRS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("prompt", "answer"),
    ("question", "answer"),
    ("question", "response"),
    ("context", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("input", "response"),
    ("user", "assistant"),
    ("human", "assistant"),
    ("patient", "doctor"),
    ("client", "therapist"),
    ("questiontext", "answertext"),
    ("q", "a"),
    ("问题", "回答"),
    ("问题", "答案"),
)


def keys_of(names: dict[str, str]) -> tuple[str, str] | None:
    """Returns the record's keys of question and answer, out of its `key_names`."""
    for asked, answered in _PAIRS:
        if asked in names and answered in names:
            return names[asked], names[answered]
    return None


def matches(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    pair = keys_of(key_names(record))
    # A prompt that is itself a list of turns, or an answer with parts, is another format's.
    return pair is not None and not any(isinstance(record[key], list | dict) for key in pair)


def convert(record: Any) -> Parsed:
    names = key_names(record)
    asked, answered = keys_of(names) or ("", "")
    system, history = names.get("system"), names.get("history")
    messages: list[Message] = []
    if system_text := optional_text(record, system):
        messages.append(("system", system_text))
    if history is not None:
        messages += history_messages(record[history])
    messages += prompted_turns(text_of(record, asked), text_of(record, answered), history=len(messages) > 1)
    return Parsed(messages, besides(record, (asked, answered, system, history)))
