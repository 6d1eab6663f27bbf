"""Turns given as a list of objects, each with a speaker and a text: shared by the formats that have such a list."""

import re
from typing import Any

from pixel_pipeline.conversations.formats.fields import (
    describe_keys,
    first_key,
    key_names,
    optional_text,
    without,
)
from pixel_pipeline.conversations.formats.roles import assigned_roles, role_of, share_a_role
from pixel_pipeline.conversations.model.records import Parsed, RecordError

SYSTEM_KEYS = ("system", "system_prompt")
_SAMPLED_TURNS = 8
_TAG_IN_TEXT = re.compile(r"(?<=[。！？!?～…”」）])[ \u3000]*([\u4e00-\u9fff]{1,5}[者师])：")


def has_turns(value: Any, role_keys: tuple[str, ...], content_keys: tuple[str, ...]) -> bool:
    """Whether a value is a list in which one of the first objects has a speaker and a text."""
    if not isinstance(value, list):
        return False
    for turn in value[:_SAMPLED_TURNS]:
        if isinstance(turn, dict) and _key(turn, role_keys) and _key(turn, content_keys):
            return True
    return False


def convert_list(
    record: Any, key: str | None, *, role_keys: tuple[str, ...], content_keys: tuple[str, ...]
) -> Parsed:
    """Convert a record with a list of turns under a key, and maybe a system text; without a key it is the list itself."""
    if key is None:
        return parse_turns(record, role_keys=role_keys, content_keys=content_keys)
    parsed = parse_turns(record[key], role_keys=role_keys, content_keys=content_keys)
    system_key = first_key(key_names(record), SYSTEM_KEYS)
    system = optional_text(record, system_key)
    messages = [("system", system), *parsed.messages] if system else parsed.messages
    metadata = {**without(record, (key, system_key)), **parsed.metadata}
    return Parsed(messages, metadata, repaired=parsed.repaired)


def parse_turns(turns: list[Any], *, role_keys: tuple[str, ...], content_keys: tuple[str, ...]) -> Parsed:
    """Convert a list of turns.

    Other keys of the turns go to the metadata `turn_extras`, one entry a turn, null if there are none. If several speakers share
    a role, `turn_speakers` distinguishes them.

    Raises:
        RecordError: `bad_turn`, `unknown_role`, `not_text`.
    """
    speakers: list[Any] = []
    contents: list[str] = []
    extras: list[dict[str, Any] | None] = []
    role_key, content_key = role_keys[0], content_keys[0]
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise RecordError(
                "bad_turn", f"turn {index} of {len(turns)} is {describe_keys(turn)}, expected an object"
            )
        if role_key not in turn or content_key not in turn:
            role_key, content_key = _key(turn, role_keys) or "", _key(turn, content_keys) or ""
            if not role_key or not content_key:
                raise RecordError("bad_turn", f"turn {index} of {len(turns)} has {describe_keys(turn)}")
        content = turn[content_key]
        if not isinstance(content, str):
            content = _joined_parts(content, f"turn {index} of {len(turns)}")
        speakers.append(turn[role_key])
        contents.append(content)
        if len(turn) > 2:
            extras.append({key: item for key, item in turn.items() if key not in (role_key, content_key)})
        else:
            extras.append(None)
    roles, inferred = assigned_roles(speakers)
    metadata: dict[str, Any] = {}
    repaired = {}
    if inferred:
        metadata["speakers"] = dict(zip(map(str, speakers), roles, strict=True))
        repaired["assumed_roles"] = 1
    several = share_a_role(speakers, roles)
    if any("者：" in text or "师：" in text for text in contents):
        turn_count = len(roles)
        roles, contents, extras, speakers = _split_at_tags(roles, contents, extras, speakers)
        if len(roles) > turn_count:
            repaired["inline_speakers"] = len(roles) - turn_count
    if extras.count(None) < len(extras):
        metadata["turn_extras"] = extras
    if several:
        metadata["turn_speakers"] = speakers
    return Parsed(list(zip(roles, contents, strict=True)), metadata, repaired=repaired)


def _key(turn: dict[str, Any], spellings: tuple[str, ...]) -> str | None:
    for spelling in spellings:
        if spelling in turn:
            return spelling
    return None


def _joined_parts(content: Any, where: str) -> str:
    """Join content given in parts, as `[{"type": "text", "text": …}, …]`."""
    if content is None:
        return ""
    if isinstance(content, list) and content:
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(map(str, texts))
    raise RecordError("not_text", f"the content of {where} is {describe_keys(content)}, expected text")


def _split_at_tags(
    roles: list[str], contents: list[str], extras: list[dict[str, Any] | None], speakers: list[Any]
) -> tuple[list[str], list[str], list[dict[str, Any] | None], list[Any]]:
    """Split turns at tags of the other speaker.

    Only where a sentence ends and the tag follows on the same line: a tag on a line of its own may be quoted.
    """
    pieces: list[tuple[str, str, dict[str, Any] | None, Any]] = []
    for role, content, extra, speaker in zip(roles, contents, extras, speakers, strict=True):
        start = 0
        for tag in _TAG_IN_TEXT.finditer(content):
            tagged_role = role_of(tag[1])
            if tagged_role is not None and tagged_role != role:
                pieces.append((role, content[start : tag.start()], extra, speaker))
                start, role, extra, speaker = tag.end(), tagged_role, None, tag[1]
        pieces.append((role, content[start:], extra, speaker))
    roles, contents, extras, speakers = (list(column) for column in zip(*pieces, strict=True))
    return roles, contents, extras, speakers
