"""ShareGPT: `{"conversations": [{"from": "human", "value": …}, …]}`, or that list alone."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names, optional_text
from pixel_pipeline.conversations.formats.turn_lists.turn_list import has_turns, parse_turns
from pixel_pipeline.conversations.model.records import Parsed

NAME = "sharegpt"
_LISTS = ("conversations", "conversation", "messages", "dialogue", "dialog", "items")
ROLES = ("from",)
CONTENTS = ("value", "content", "text")


def matches(record: Any) -> bool:
    if isinstance(record, dict):
        key = first_key(key_names(record), _LISTS)
        return key is not None and has_turns(record[key], ROLES, CONTENTS)
    return has_turns(record, ROLES, CONTENTS)


def convert(record: Any) -> Parsed:
    if isinstance(record, list):
        return parse_turns(record, role_keys=ROLES, content_keys=CONTENTS)
    names = key_names(record)
    key = first_key(names, _LISTS)
    parsed = parse_turns(record[key], role_keys=ROLES, content_keys=CONTENTS)
    system_key = first_key(names, ("system", "system_prompt"))
    system = optional_text(record, system_key)
    messages = [("system", system), *parsed.messages] if system else parsed.messages
    metadata = {**besides(record, (key, system_key)), **parsed.metadata}
    return Parsed(messages, metadata, repaired=parsed.repaired)
