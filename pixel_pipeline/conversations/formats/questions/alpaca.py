"""Alpaca: `instruction`, `input` (may be empty), `output` or `response`; `system` and `history` optional.

The instruction and the input make up the user turn, with a blank line between them.
"""

from typing import Any

from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names, optional_text, text_of
from pixel_pipeline.conversations.formats.questions.prompts import prompted_turns
from pixel_pipeline.conversations.formats.turn_lists.history import history_messages
from pixel_pipeline.conversations.model.records import Message, Parsed

NAME = "alpaca"
_OUTPUTS = ("output", "response", "completion", "answer")


def matches(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    instruction, output = keys_of(key_names(record))
    return instruction is not None and output is not None and isinstance(record[instruction], str)


def keys_of(names: dict[str, str]) -> tuple[str | None, str | None]:
    """Returns the record's keys of instruction and output, out of its `key_names`."""
    return names.get("instruction"), first_key(names, _OUTPUTS)


def convert(record: Any) -> Parsed:
    names = key_names(record)
    instruction, output = (key or "" for key in keys_of(names))
    context, system, history = (names.get(name) for name in ("input", "system", "history"))
    asked = [text for text in (optional_text(record, instruction), optional_text(record, context)) if text]
    messages: list[Message] = []
    if system_text := optional_text(record, system):
        messages.append(("system", system_text))
    if history is not None:
        messages += history_messages(record[history])
    messages += prompted_turns("\n\n".join(asked), text_of(record, output), history=len(messages) > 1)
    return Parsed(messages, besides(record, (instruction, output, context, system, history)))
