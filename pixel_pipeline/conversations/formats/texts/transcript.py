"""Speaker-tagged text: `Therapist: …` and `Client: …` on lines of their own, with or without times (`speakers`).

It comes as a whole text, as a text under `dialogue`, `transcript` and the like, or as a list of tagged
strings. A line without a tag goes on with the turn before it; lines before the first turn become the metadata
`header`, bracketed stage directions `stage_directions`. Within a line the tag of somebody who opens other lines starts a
turn too, where a sentence ends before it. Where the whole text is one line, any speaker's tag does; what stands before the first tag is a turn as well where it is a sentence, or the other
side has none. A tag at the end with nothing behind it only asks for the next turn.
"""

from itertools import pairwise
import re
from typing import Any

from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names
from pixel_pipeline.conversations.formats.roles import assigned_roles, is_numbered, role_of, share_a_role
from pixel_pipeline.conversations.formats.texts.speakers import (
    TAG,
    named_lines,
    short_names,
    speaker,
    strangers,
)
from pixel_pipeline.conversations.model.records import Message, Parsed, RecordError

NAME = "transcript"
_STRONG = ("dialogue", "dialog", "transcript", "conversation", "conversations", "chat", "session")
_WEAK = ("text", "content")
_LOOKED_AT = 20_000
_LINE_END = re.compile("\r\n?|\n|\x85")
# Beside these, a text is one turn of several.
_SPEAKERS = ("role", "speaker", "from", "sender", "author", "replies")
_STAGE = re.compile(r"\s*(?:\([^()]*\)|（[^（）]*）|\[[^\[\]]*\]|【[^【】]*】)\s*")
_INLINE = re.compile(
    r"(?<=\s)([A-Z]\w{1,23}|(?<!,\s)[a-z]\w{1,23}+)[ \t]?[:：]|(?<=[\s。！？!?…”」）])([\u4e00-\u9fff]{2,6})[:：]"
)
_SENTENCE_ENDS = tuple('.?!…。？！"”」')
_GLUED = re.compile(r"(?<=[.?!…。？！\"”」）)])[ \t\u3000]*([^\W\d_][\w ]{0,23}?)[ \t]?[:：]")


def matches(record: Any) -> bool:
    if isinstance(record, str):
        return _tagged_lines(record) >= 2
    if isinstance(record, list):
        return _is_turn_list(record[:8])
    return isinstance(record, dict) and _text_key(record) is not None


def convert(record: Any) -> Parsed:
    if isinstance(record, str | list):
        return parse(_whole(record), {})
    key = _text_key(record) or ""
    return parse(_whole(record[key]), besides(record, (key,)))


def parse(text: str, metadata: dict[str, Any]) -> Parsed:
    """Cuts a text at its speakers' tags.

    Args:
        metadata: What the record has besides; gets `header`, `stage_directions`, `speakers` and `turn_speakers`.

    Raises:
        RecordError: `unknown_role`: somebody speaks of whom nothing is known.
    """
    turns: list[tuple[str, list[str]]] = []
    header: list[str] = []
    stage: list[str] = []
    lines, cuts = _split_one_line(_LINE_END.split(text))
    lines, times = named_lines(lines)
    short = short_names(lines)
    others = strangers(tag[1] for line in lines if (tag := TAG.match(line)))
    lines, glued = _split_glued(lines, others)
    for line in lines:
        tag = TAG.match(line)
        if tag and (tag[1] in short or tag[1] in others or role_of(tag[1]) or is_numbered(tag[1])):
            turns.append((tag[1], [line[tag.end() :]]))
        elif _STAGE.fullmatch(line):
            stage.append(line.strip())
        elif turns:
            turns[-1][1].append(line)
        elif line.strip():
            header.append(line.strip())
    names = [name for name, _ in turns]
    roles, concluded = assigned_roles([short.get(name, name) for name in names])
    messages: list[Message] = [
        (role, "\n".join(said).strip()) for role, (_, said) in zip(roles, turns, strict=True)
    ]
    opened = 0
    if cuts and header and (header[-1].endswith(_SENTENCE_ENDS) or len(set(roles)) == 1):
        other = {"user": "assistant", "assistant": "user"}.get(roles[0])
        if other is not None:
            messages.insert(0, (other, "\n".join(header)))
            header, opened = [], 1
    asks = len(messages) > 1 and not messages[-1][1]
    if asks:
        messages.pop()
    if header:
        metadata["header"] = header
    if stage:
        metadata["stage_directions"] = stage
    if concluded:
        metadata["speakers"] = dict(zip(names, roles, strict=True))
    if share_a_role(names, roles):
        metadata["turn_speakers"] = [*[None] * opened, *names][: len(messages)]
    repaired = {
        "line_ends": text.count("\r") + text.count("\x85"),
        "inline_speakers": cuts + glued,
        "timestamps": times,
        "assumed_roles": int(concluded or opened),
        "open_turns": int(asks),
    }
    return Parsed(messages, metadata, repaired={kind: n for kind, n in repaired.items() if n})


def speaker_share(text: str) -> float:
    """Returns which part of the lines of a text starts with a known speaker's tag, 0 to 1."""
    lines = [line for line in text.split("\n") if line.strip()]
    return sum(speaker(line) is not None for line in lines) / max(1, len(lines))


def _whole(text: str | list[Any]) -> str:
    if isinstance(text, str):
        return text
    wrong = next((index for index, turn in enumerate(text) if not isinstance(turn, str)), None)
    if wrong is not None:
        raise RecordError(
            "bad_turn", f"turn {wrong} of {len(text)} is {type(text[wrong]).__name__}, not text"
        )
    return "\n".join(text)


def _is_turn_list(first: list[Any]) -> bool:
    """Whether tagged strings are the turns of one conversation; each may also be a transcript of its own."""
    texts = [turn for turn in first if isinstance(turn, str)]
    if len(texts) < 2 or _tagged_lines("\n".join(texts)) < 2:
        return False
    return sum(_tagged_lines(text) >= 2 for text in texts) <= len(texts) / 2


def _text_key(record: dict[str, Any]) -> str | None:
    names = key_names(record)
    strong = first_key(names, _STRONG)
    if strong is not None:
        value = record[strong]
        if isinstance(value, list) and _is_turn_list(value[:8]):
            return strong
        if isinstance(value, str) and (_tagged_lines(value) or _split_one_line(value.splitlines())[1]):
            return strong
    weak = first_key(names, _WEAK)
    if weak is None or first_key(names, _SPEAKERS):
        return None
    if isinstance(record[weak], str) and (tagged := _tagged_lines(record[weak])) >= 2:
        # Any text may quote a dialogue; here it must be one.
        said = sum(not line.isspace() for line in record[weak][:_LOOKED_AT].splitlines() if line)
        return weak if tagged >= 0.5 * said else None
    return None


def _tagged_lines(text: str) -> int:
    """Counts lines with a speaker's tag; 0 where they are rare, as in prose about a conversation."""
    lines = [line for line in _LINE_END.split(text[:_LOOKED_AT]) if line.strip()]
    tagged = sum(speaker(line) is not None for line in lines)
    if not tagged and (short := short_names(lines)):
        tagged = sum(1 for line in lines if (tag := TAG.match(line)) and tag[1] in short)
    return tagged if tagged >= 0.05 * len(lines) else 0


def _split_one_line(lines: list[str]) -> tuple[list[str], int]:
    """Cuts a text that lost its line ends at the speakers' tags; returns its lines and the number of cuts."""
    said = [line for line in lines if line.strip()]
    if len(said) != 1:
        return lines, 0
    tags = list(_INLINE.finditer(said[0]))
    names = [tag[1] or tag[2] for tag in tags]
    others = strangers(names)
    # In lower case, as translators leave it, it may be any word: not so where the speaker is there in capitals too.
    spelled = {*names, said[0].partition(":")[0].strip()}
    small = {name for name in names if name[0].islower() and name.capitalize() not in spelled}
    starts = (
        tag.start()
        for tag, name in zip(tags, names, strict=True)
        if name in others or (role_of(name) and name not in small)
    )
    cuts = [0, *starts, len(said[0])]
    pieces = [said[0][start:end] for start, end in pairwise(cuts)]
    return pieces, len(pieces) - 1


def _split_glued(lines: list[str], others: set[str]) -> tuple[list[str], int]:
    """Cuts lines within which a speaker goes on who opens a line elsewhere; returns the lines and the number of cuts."""
    tags = [TAG.match(line) for line in lines]
    names = {tag[1] for tag in tags if tag and (tag[1] in others or role_of(tag[1]) or is_numbered(tag[1]))}
    result: list[str] = []
    for line, tag in zip(lines, tags, strict=True):
        start = 0
        # Most lines have no other colon than their tag's.
        if line.find(":", tag.end() if tag else 0) >= 0 or line.find("：", tag.end() if tag else 0) >= 0:
            for glued in _GLUED.finditer(line, tag.end() if tag else 0):
                if glued[1] in names:
                    result.append(line[start : glued.start()])
                    start = glued.start(1)
        result.append(line[start:])
    return result, len(result) - len(lines)
