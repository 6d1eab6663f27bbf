"""Alpaca: `instruction`, `input` (may be empty), `output` or `response`; `system` and `history` optional.

The instruction and the input make up the user turn, separated by a blank line.
"""

from typing import Any

from pixel_pipeline.conversations.formats.fields import first_key, key_names, optional_text
from pixel_pipeline.conversations.formats.questions.parts import Parts, convert_parts
from pixel_pipeline.conversations.model.records import Parsed

NAME = "alpaca"
_OUTPUTS = ("output", "response", "completion", "answer")


def parts_of(names: dict[str, str]) -> Parts | None:
    """Return the keys of a record with these `key_names`, or None."""
    instruction, output = names.get("instruction"), first_key(names, _OUTPUTS)
    if instruction is None or output is None:
        return None
    context, system, history = (names.get(name) for name in ("input", "system", "history"))
    return Parts(instruction, output, context=context, system=system, history=history)


def matches(record: Any) -> bool:
    parts = parts_of(key_names(record)) if isinstance(record, dict) else None
    return parts is not None and isinstance(record[parts.question], str)


def convert(record: Any) -> Parsed:
    parts = parts_of(key_names(record))
    assert parts is not None
    return convert_parts(record, parts, optional_text)
