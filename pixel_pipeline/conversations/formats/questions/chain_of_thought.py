"""Question, chain of thought, answer: `Question`, `Complex_CoT`, `Response`, in any case. The thought becomes `reasoning`."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import first_key, key_names
from pixel_pipeline.conversations.formats.questions.parts import Parts, convert_parts
from pixel_pipeline.conversations.model.records import Parsed

NAME = "chain_of_thought"
_QUESTIONS = ("question", "prompt", "query", "instruction", "problem", "input")
_THOUGHTS = (
    "complex_cot", "cot", "chain_of_thought", "reasoning", "reasoning_content", "thought", "thinking", "rationale",
)  # fmt: skip
_ANSWERS = ("response", "answer", "output", "solution", "final_answer")


def parts_of(names: dict[str, str]) -> Parts | None:
    """Return the keys of a record with these `key_names`, or None."""
    question, thought, answer = (first_key(names, keys) for keys in (_QUESTIONS, _THOUGHTS, _ANSWERS))
    if question is None or thought is None or answer is None:
        return None
    # An Alpaca record with a thought has an input.
    context = names.get("input") if question == names.get("instruction") else None
    return Parts(question, answer, thought, context, names.get("system"))


def matches(record: Any) -> bool:
    return isinstance(record, dict) and parts_of(key_names(record)) is not None


def convert(record: Any) -> Parsed:
    parts = parts_of(key_names(record))
    assert parts is not None
    return convert_parts(record, parts)
