"""A comparison of answers: `chosen` and `rejected`, or two candidates with or without a verdict.

It is not meant for supervised training: the row is tagged PREFERENCE and holds the better side, or the first one if there is no
verdict; the metadata `preference` holds the other. A side is an answer to the record's prompt, or the whole conversation as a
list of turns or as tagged text.
"""

from collections.abc import Mapping
from typing import Any

from pixel_pipeline.conversations.formats.fields import (
    describe_key,
    first_key,
    key_names,
    optional_text,
    without,
)
from pixel_pipeline.conversations.formats.texts.inline_tags import parse_tagged
from pixel_pipeline.conversations.formats.turn_lists.turn_list import parse_turns
from pixel_pipeline.conversations.model.records import PREFERENCE, Message, Parsed, RecordError
from pixel_pipeline.conversations.text.cleaning import clean

NAME = "preference"
_JUDGED = (
    ("chosen", "rejected"), ("preferred", "rejected"), ("accepted", "rejected"), ("preferred", "dispreferred"),
    ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"), ("better", "worse"),
)  # fmt: skip
_CANDIDATES = tuple(
    (f"{name}{join}{first}", f"{name}{join}{second}")
    for name in ("answer", "response", "completion", "output", "conversation", "human_ref")
    for join in ("", "_")
    for first, second in (("1", "2"), ("0", "1"), ("a", "b"))
)
_PAIRS = (*_JUDGED, *_CANDIDATES)
_FIRST = frozenset(first for first, _ in _PAIRS)
_PROMPTS = ("prompt", "question", "instruction", "query", "input", "context", "history")
_VERDICTS = ("better_response_id", "preferred", "preference", "winner", "better", "choice", "label", "labels")
_ROLES = ("role", "from", "speaker")
_CONTENTS = ("content", "value", "text")


def matches(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    names = key_names(record)
    if _is_single_verdict(record, names):
        return True
    pair = _pair(names)
    return pair is not None and all(
        record[key] and isinstance(record[key], str | list | dict) for key in pair
    )


def may_match(names: Mapping[str, str]) -> bool:
    """Whether a record with these `key_names` may be a comparison, whatever its values."""
    return not _FIRST.isdisjoint(names) or names.keys() >= {"completion", "label"}


def convert(record: Any) -> Parsed:
    names = key_names(record)
    prompt = first_key(names, _PROMPTS)
    system = names.get("system")
    if _is_single_verdict(record, names):
        answer, verdict = names["completion"], names["label"]
        messages = _side(record, prompt, answer)
        metadata = without(record, (prompt, answer, verdict, system))
        metadata["preference"] = {"desirable": record[verdict]}
        return Parsed(_with_system(record, system, messages), metadata, tags=(PREFERENCE,))
    first, second = _pair(names) or ("", "")
    judged = (first.strip().lower(), second.strip().lower()) in _JUDGED
    better = None if judged else _verdict(record, names, (first, second))
    if better == second:
        first, second = second, first
    repaired: dict[str, int] = {}
    other = [
        {"role": role, "content": clean(content, repaired)} for role, content in _side(record, prompt, second)
    ]
    metadata = without(record, (first, second, prompt, system))
    metadata["preference"] = {"rejected" if judged or better else "alternative": other}
    messages = _with_system(record, system, _side(record, prompt, first))
    return Parsed(messages, metadata, repaired=repaired, tags=(PREFERENCE,))


def _is_single_verdict(record: dict[str, Any], names: dict[str, str]) -> bool:
    """Whether a record is a single answer judged good or bad: `{"prompt": …, "completion": …, "label": false}`."""
    return (
        "prompt" in names and "completion" in names and isinstance(record.get(names.get("label", "")), bool)
    )


def _pair(names: dict[str, str]) -> tuple[str, str] | None:
    if _FIRST.isdisjoint(names):
        return None
    for first, second in _PAIRS:
        if first in names and second in names:
            return names[first], names[second]
    return None


def _verdict(record: dict[str, Any], names: dict[str, str], pair: tuple[str, str]) -> str | None:
    """Return the key of the pair that a verdict names, by its whole name or its last character."""
    key = first_key(names, _VERDICTS)
    verdict = str(record[key]).strip().lower().removeprefix("model_") if key is not None else ""
    return next(
        (own for own in pair if verdict and verdict in (own.lower(), own.lower().rpartition("_")[2][-1:])),
        None,
    )


def _side(record: dict[str, Any], prompt: str | None, key: str) -> list[Message]:
    asked = [] if prompt is None else _turns(record[prompt], "user", prompt)
    answered = _turns(record[key], "assistant", key)
    # A side may repeat the prompt, or be the whole conversation.
    return answered if any(role == "user" for role, _ in answered) else asked + answered


def _turns(value: Any, role: str, key: str) -> list[Message]:
    if isinstance(value, str):
        messages, _ = parse_tagged(value)
        return messages or [(role, value.strip())]
    turns = [value] if isinstance(value, dict) else value
    if isinstance(turns, list):
        return parse_turns(turns, role_keys=_ROLES, content_keys=_CONTENTS).messages
    raise RecordError(
        "not_text", f"expected a text or turns under {describe_key(key)}, found {type(value).__name__}"
    )


def _with_system(record: dict[str, Any], system: str | None, messages: list[Message]) -> list[Message]:
    text = optional_text(record, system)
    return [("system", text), *messages] if text and messages[:1] and messages[0][0] != "system" else messages
