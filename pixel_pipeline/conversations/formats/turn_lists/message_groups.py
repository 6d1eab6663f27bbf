"""Chat logs in groups: `{"messages": [[{"sender": …, "text": …}, …], …]}`, one group for consecutive messages of one side."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import describe_keys, first_key, key_names, without
from pixel_pipeline.conversations.formats.turn_lists.turn_list import parse_turns
from pixel_pipeline.conversations.model.records import Parsed, RecordError

NAME = "message_groups"
_LISTS = ("messages", "turns", "utterances", "chat", "dialogue", "dialog", "conversation")
_ROLES = ("sender", "role", "speaker", "from", "author")
_CONTENTS = ("text", "content", "message", "value", "utterance", "body")
_SAMPLED_GROUPS = 8


def matches(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    key = first_key(key_names(record), _LISTS)
    groups = record[key] if key is not None else None
    if not isinstance(groups, list) or not groups or not isinstance(groups[0], list):
        return False
    # A list with several speakers is a session of its own, not a group of one side's messages.
    return all(_is_group(group) for group in groups[:_SAMPLED_GROUPS])


def convert(record: Any) -> Parsed:
    key = first_key(key_names(record), _LISTS) or ""
    groups = record[key]
    wrong = next((index for index, group in enumerate(groups) if not isinstance(group, list)), None)
    if wrong is not None:
        raise RecordError("bad_turn", f"group {wrong} of {len(groups)} is {describe_keys(groups[wrong])}")
    turns = [turn for group in groups for turn in group]
    parsed = parse_turns(turns, role_keys=_ROLES, content_keys=_CONTENTS)
    messages = [message for message in parsed.messages if message[1].strip()]
    repaired = dict(parsed.repaired)
    if len(messages) < len(parsed.messages):
        repaired["blank_messages"] = len(parsed.messages) - len(messages)
    return Parsed(messages, {**without(record, (key,)), **parsed.metadata}, repaired=repaired)


def _is_group(group: Any) -> bool:
    if not isinstance(group, list) or not group or not all(isinstance(turn, dict) for turn in group):
        return False
    role = next((key for key in _ROLES if key in group[0]), None)
    if role is None or not any(key in group[0] for key in _CONTENTS):
        return False
    return all(turn.get(role) == group[0][role] for turn in group)
