"""Turns given as a list of objects, each with a speaker and a text: shared by the formats that have such a
list."""

import re
from typing import Any

from pixel_pipeline.conversations.formats.fields import describe_keys
from pixel_pipeline.conversations.formats.roles import assigned_roles, role_of, share_a_role
from pixel_pipeline.conversations.model.records import Parsed, RecordError

_LOOKED_AT = 8
_GLUED = re.compile(r"(?<=[。！？!?～…”」）])[ \u3000]*([\u4e00-\u9fff]{1,5}[者师])：")


def has_turns(value: Any, role_keys: tuple[str, ...], content_keys: tuple[str, ...]) -> bool:
    """Whether a value is a list in which one of the first objects has a speaker and a text."""
    if not isinstance(value, list):
        return False
    for turn in value[:_LOOKED_AT]:
        if isinstance(turn, dict) and _key(turn, role_keys) and _key(turn, content_keys):
            return True
    return False


def parse_turns(turns: list[Any], *, role_keys: tuple[str, ...], content_keys: tuple[str, ...]) -> Parsed:
    """Reads a list of turns. What a turn has besides goes to the metadata `turn_extras`, one entry a turn,
    null for nothing; where several speakers share a role, `turn_speakers` tells them apart.

    Raises:
        RecordError: `bad_turn`, `unknown_role`, `not_text`.
    """
    speakers: list[Any] = []
    contents: list[str] = []
    extras: list[dict[str, Any] | None] = []
    some = False
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
            some = True
            extras.append({key: item for key, item in turn.items() if key not in (role_key, content_key)})
        else:
            extras.append(None)
    roles, concluded = assigned_roles(speakers)
    named = dict(zip(map(str, speakers), roles, strict=True)) if concluded else {}
    several = share_a_role(speakers, roles)
    cuts = (
        _cut_glued(roles, contents, extras, speakers)
        if any("者：" in text or "师：" in text for text in contents)
        else 0
    )
    metadata: dict[str, Any] = {"turn_extras": extras} if some else {}
    if several:
        metadata["turn_speakers"] = speakers
    repaired = {}
    if concluded:
        # Who it was that got which role.
        metadata["speakers"] = named
        repaired["assumed_roles"] = 1
    if cuts:
        repaired["inline_speakers"] = cuts
    return Parsed(list(zip(roles, contents, strict=True)), metadata, repaired=repaired)


def _key(turn: dict[str, Any], spellings: tuple[str, ...]) -> str | None:
    for spelling in spellings:
        if spelling in turn:
            return spelling
    return None


def _joined_parts(content: Any, where: str) -> str:
    """Joins content given in parts, as `[{"type": "text", "text": …}, …]`."""
    if content is None:
        return ""
    if isinstance(content, list) and content:
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(map(str, texts))
    raise RecordError("not_text", f"the content of {where} is {describe_keys(content)}, expected text")


def _cut_glued(
    roles: list[str], contents: list[str], extras: list[dict[str, Any] | None], speakers: list[Any]
) -> int:
    """Cuts turns within which the other side goes on to speak, in place; returns the number of cuts.

    Only where a sentence ends and a tag follows on the same line: on a line of its own it may be quoted.
    """
    turns = list(zip(roles, contents, extras, speakers, strict=True))
    pieces: list[tuple[str, str, dict[str, Any] | None, Any]] = []
    for role, content, extra, speaker in turns:
        start = 0
        for tag in _GLUED.finditer(content):
            said = role_of(tag[1])
            if said is not None and said != role:
                pieces.append((role, content[start : tag.start()], extra, speaker))
                start, role, extra, speaker = tag.end(), said, None, tag[1]
        pieces.append((role, content[start:], extra, speaker))
    roles[:], contents[:], extras[:], speakers[:] = (list(column) for column in zip(*pieces, strict=True))
    return len(pieces) - len(turns)
