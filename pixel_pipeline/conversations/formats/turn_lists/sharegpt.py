"""ShareGPT: `{"conversations": [{"from": "human", "value": …}, …]}`, or that list alone."""

from typing import Any

from pixel_pipeline.conversations.formats.fields import first_key, key_names
from pixel_pipeline.conversations.formats.turn_lists.turn_list import convert_list, has_turns
from pixel_pipeline.conversations.model.records import Parsed

NAME = "sharegpt"
LISTS = ("conversations", "conversation", "messages", "dialogue", "dialog", "items")
ROLES = ("from",)
CONTENTS = ("value", "content", "text")


def matches(record: Any) -> bool:
    if not isinstance(record, dict):
        return has_turns(record, ROLES, CONTENTS)
    key = first_key(key_names(record), LISTS)
    return key is not None and has_turns(record[key], ROLES, CONTENTS)


def convert(record: Any) -> Parsed:
    key = first_key(key_names(record), LISTS) if isinstance(record, dict) else None
    return convert_list(record, key, role_keys=ROLES, content_keys=CONTENTS)
