"""ChatML: `{"messages": [{"role": "user", "content": …}, …]}`, that list alone, and its spelling variants.

The list may be called `conversation`, `history` (session logs of a bot) and more; a turn may say `speaker` or
`sender` for the role, and `text`, `value`, `utterance` or `message` for the content.
"""

from typing import Any

from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names, optional_text
from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.formats.turn_lists.turn_list import has_turns, parse_turns
from pixel_pipeline.conversations.model.records import Parsed

NAME = "chatml"
LISTS = (
    "messages", "conversation", "conversations", "dialogue", "dialog", "turns", "utterances", "chat",
    "session",
    "transcript", "log", "history",
)  # fmt: skip
ROLES = ("role", "speaker", "sender", "author")
CONTENTS = ("content", "text", "value", "utterance", "message")
# Beside these, `history` holds only what came before.
_LAST_ANSWER = ("response", "output", "answer")
# A flat list of messages of many conversations, each pointing to the one it answers or holding its answers, is not one
# conversation.
_POINTERS = (
    "replies",
    "children",
    "parent_id",
    "parent_message_id",
    "conversation_id",
    "dialogue_id",
    "session_id",
    "thread_id",
)


def _turns_key(record: dict[str, Any]) -> str | None:
    names = key_names(record)
    for spelling in LISTS:
        key = names.get(spelling)
        if key is not None and has_turns(record[key], ROLES, CONTENTS):
            return None if spelling == "history" and first_key(names, _LAST_ANSWER) else key
    return None


def matches(record: Any) -> bool:
    if isinstance(record, dict):
        return _turns_key(record) is not None
    if not has_turns(record, ROLES, CONTENTS):
        return False
    first = [turn for turn in record[:8] if isinstance(turn, dict)]
    if any(key in turn for turn in first for key in _POINTERS):
        return False
    # A list of, say, articles with an author and a text is a list of records.
    return any(isinstance(turn.get(key), str) and role_of(turn[key]) for turn in first for key in ROLES)


def convert(record: Any) -> Parsed:
    if isinstance(record, list):
        return parse_turns(record, role_keys=ROLES, content_keys=CONTENTS)
    key = _turns_key(record) or ""
    parsed = parse_turns(record[key], role_keys=ROLES, content_keys=CONTENTS)
    system_key = first_key(key_names(record), ("system", "system_prompt"))
    system = optional_text(record, system_key)
    messages = [("system", system), *parsed.messages] if system else parsed.messages
    metadata = {**besides(record, (key, system_key)), **parsed.metadata}
    return Parsed(messages, metadata, repaired=parsed.repaired)
