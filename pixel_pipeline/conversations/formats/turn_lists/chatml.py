"""ChatML: `{"messages": [{"role": "user", "content": …}, …]}`, that list alone, and its spelling variants.

The list may be called `conversation`, `history` (session logs of a bot) and more; a turn may use `speaker` or `sender` for the
role, and `text`, `value`, `utterance` or `message` for the content.
"""

from typing import Any

from pixel_pipeline.conversations.formats.fields import first_key, key_names
from pixel_pipeline.conversations.formats.roles import role_of
from pixel_pipeline.conversations.formats.turn_lists.turn_list import convert_list, has_turns
from pixel_pipeline.conversations.model.records import Parsed

NAME = "chatml"
LISTS = (
    "messages", "conversation", "conversations", "dialogue", "dialog", "turns", "utterances", "chat", "session", "transcript",
    "log", "history",
)  # fmt: skip
ROLES = ("role", "speaker", "sender", "author")
CONTENTS = ("content", "text", "value", "utterance", "message")
LAST_ANSWERS = ("response", "output", "answer")
"""Next to one of these keys, `history` holds only the earlier turns."""
# Messages of many conversations that point to each other are not one conversation.
_POINTERS = (
    "replies", "children", "parent_id", "parent_message_id", "conversation_id", "dialogue_id", "session_id", "thread_id",
)  # fmt: skip


def _turns_key(record: dict[str, Any]) -> str | None:
    names = key_names(record)
    for spelling in LISTS:
        key = names.get(spelling)
        if key is not None and has_turns(record[key], ROLES, CONTENTS):
            return None if spelling == "history" and first_key(names, LAST_ANSWERS) else key
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
    key = _turns_key(record) if isinstance(record, dict) else None
    return convert_list(record, key, role_keys=ROLES, content_keys=CONTENTS)
