"""Turns without a speaker: `{"messages": [{"message": …}, …]}` or `{"dialog": ["…", "…"]}`.

Speakers are assumed to alternate, starting with the user.
"""

from typing import Any

from pixel_pipeline.conversations.formats.fields import describe_keys, first_key, key_names, without
from pixel_pipeline.conversations.model.records import Message, Parsed, RecordError

NAME = "alternating"
_LISTS = ("messages", "conversation", "dialogue", "dialog", "utterances")
_CONTENTS = ("message", "utterance", "text", "content")
_SPEAKERS = ("role", "from", "speaker", "sender", "author", "name", "id", "user")


def matches(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    key = first_key(key_names(record), _LISTS)
    turns = record[key] if key is not None else None
    if not isinstance(turns, list) or len(turns) < 2:
        return False
    return _has_content(turns[0]) and _has_content(turns[1])


def convert(record: Any) -> Parsed:
    key = first_key(key_names(record), _LISTS)
    turns = record[key]
    messages: list[Message] = []
    extras: list[dict[str, Any] | None] = []
    for index, turn in enumerate(turns):
        if not _has_content(turn):
            raise RecordError("bad_turn", f"turn {index} of {len(turns)} is {describe_keys(turn)}")
        content = _content_key(turn)
        messages.append(("assistant" if index % 2 else "user", turn if content is None else turn[content]))
        extras.append(None if content is None else without(turn, (content,)) or None)
    metadata = without(record, (key,))
    if any(extras):
        metadata["turn_extras"] = extras
    return Parsed(messages, metadata, repaired={"assumed_roles": 1})


def _has_content(turn: Any) -> bool:
    return isinstance(turn, str) or _content_key(turn) is not None


def _content_key(turn: Any) -> str | None:
    if not isinstance(turn, dict) or any(key in turn for key in _SPEAKERS):
        return None
    return next((key for key in _CONTENTS if isinstance(turn.get(key), str)), None)
