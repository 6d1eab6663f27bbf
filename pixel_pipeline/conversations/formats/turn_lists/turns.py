"""Exchanges: `{"conversation": [{"system": …, "input": …, "output": …}, …]}`, or that list alone; `system` is optional."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import (
    describe_keys,
    first_key,
    key_names,
    optional_text,
    text_of,
    without,
)
from pixel_pipeline.conversations.model.records import Message, Parsed, RecordError

NAME = "turns"
_LISTS = ("conversation", "conversations", "dialogue", "dialog", "turns", "messages")
_USED = ("system", "input", "output")


def _exchanges(record: Any) -> tuple[str | None, Any]:
    if isinstance(record, dict):
        key = first_key(key_names(record), _LISTS)
        return key, record[key] if key is not None else None
    # An Alpaca file without instructions is also a list of exchanges, but without `system`.
    if isinstance(record, list) and record and isinstance(record[0], dict) and "system" in record[0]:
        return None, record
    return None, None


def matches(record: Any) -> bool:
    _, exchanges = _exchanges(record)
    if not isinstance(exchanges, list):
        return False
    # Exchanges with an instruction are separate Alpaca records.
    return any(
        isinstance(item, dict) and "input" in item and "output" in item and "instruction" not in item
        for item in exchanges[:8]
    )


def convert(record: Any) -> Parsed:
    key, exchanges = _exchanges(record)
    messages: list[Message] = []
    extras: list[dict[str, Any] | None] = []
    for index, exchange in enumerate(exchanges):
        if not isinstance(exchange, dict) or "input" not in exchange or "output" not in exchange:
            raise RecordError(
                "bad_turn", f"exchange {index} of {len(exchanges)} is {describe_keys(exchange)}"
            )
        system = optional_text(exchange, "system" if "system" in exchange else None)
        # Some sources repeat the system text in each exchange.
        if system and ("system", system) not in messages[:1]:
            messages.append(("system", system))
        messages += [("user", text_of(exchange, "input")), ("assistant", text_of(exchange, "output"))]
        extras.append(without(exchange, _USED) or None)
    metadata = without(record, (key,)) if key is not None else {}
    if any(extras):
        metadata["turn_extras"] = extras
    return Parsed(messages, metadata)
