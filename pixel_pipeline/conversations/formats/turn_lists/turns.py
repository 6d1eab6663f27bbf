"""Exchanges: `{"conversation": [{"system": …, "input": …, "output": …}, …]}`, or that list alone. The system
text may be absent."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import (
    besides,
    describe_keys,
    first_key,
    key_names,
    optional_text,
    text_of,
)
from pixel_pipeline.conversations.model.records import Message, Parsed, RecordError

NAME = "turns"
_LISTS = ("conversation", "conversations", "dialogue", "dialog", "turns", "messages")
_USED = ("system", "input", "output")


def _exchanges(record: Any) -> tuple[str | None, Any]:
    if isinstance(record, dict):
        key = first_key(key_names(record), _LISTS)
        return key, record[key] if key is not None else None
    # A list of exchanges alone is also what an Alpaca file without instructions looks like: only `system`
    # tells.
    if isinstance(record, list) and record and isinstance(record[0], dict) and "system" in record[0]:
        return None, record
    return None, None


def matches(record: Any) -> bool:
    _, exchanges = _exchanges(record)
    if not isinstance(exchanges, list):
        return False
    # With an instruction each is a record of its own: a list of Alpaca records.
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
        extras.append(besides(exchange, _USED) or None)
    metadata = besides(record, (key,)) if key is not None else {}
    if any(extras):
        metadata["turn_extras"] = extras
    return Parsed(messages, metadata)
