"""Question, chain of thought, answer: `Question`, `Complex_CoT`, `Response`, in any case. The thought is kept
apart."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names, optional_text, text_of
from pixel_pipeline.conversations.formats.questions.prompts import prompted_turns
from pixel_pipeline.conversations.model.records import Parsed

NAME = "chain_of_thought"
_QUESTIONS = ("question", "prompt", "query", "instruction", "problem", "input")
_THOUGHTS = (
    "complex_cot",
    "cot",
    "chain_of_thought",
    "reasoning",
    "reasoning_content",
    "thought",
    "thinking",
    "rationale",
)
_ANSWERS = ("response", "answer", "output", "solution", "final_answer")


def keys_of(names: dict[str, str]) -> tuple[str | None, str | None, str | None]:
    """Returns the record's keys of question, thought and answer, out of its `key_names`."""
    return first_key(names, _QUESTIONS), first_key(names, _THOUGHTS), first_key(names, _ANSWERS)


def context_of(names: dict[str, str], question: str | None) -> str | None:
    """Returns the key of what belongs to the question: an Alpaca record with a thought has an input."""
    return names.get("input") if question == names.get("instruction") else None


def matches(record: Any) -> bool:
    return isinstance(record, dict) and None not in keys_of(key_names(record))


def convert(record: Any) -> Parsed:
    names = key_names(record)
    question, thought, answer = keys_of(names)
    system = names.get("system")
    context = context_of(names, question)
    asked = "\n\n".join(
        text for text in (text_of(record, question or ""), optional_text(record, context)) if text
    )
    messages = prompted_turns(asked, text_of(record, answer or ""))
    if system_text := optional_text(record, system):
        messages.insert(0, ("system", system_text))
    metadata = besides(record, (question, thought, answer, system, context))
    return Parsed(messages, metadata, reasoning=optional_text(record, thought) or None)
