"""A question and its answer under keys of their own: shared by the formats that have them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pixel_pipeline.conversations.formats.fields import optional_text, text_of, without
from pixel_pipeline.conversations.formats.questions.prompts import prompted_turns
from pixel_pipeline.conversations.formats.turn_lists.history import history_messages
from pixel_pipeline.conversations.model.records import Message, Parsed


class Parts(NamedTuple):
    """The record's own keys for its parts."""

    question: str
    answer: str
    thought: str | None = None
    context: str | None = None
    system: str | None = None
    history: str | None = None


def convert_parts(
    record: dict[str, Any], parts: Parts, read_question: Callable[[dict[str, Any], str], str] = text_of
) -> Parsed:
    """Convert a record. A context follows the question after a blank line."""
    context = optional_text(record, parts.context)
    messages: list[Message] = []
    if system := optional_text(record, parts.system):
        messages.append(("system", system))
    if parts.history is not None:
        messages += history_messages(record[parts.history])
    asked = "\n\n".join(text for text in (read_question(record, parts.question), context) if text)
    answer = text_of(record, parts.answer)
    messages += prompted_turns(asked, answer, has_history=len(messages) > 1)
    reasoning = optional_text(record, parts.thought) or None
    return Parsed(messages, without(record, parts), reasoning=reasoning)
