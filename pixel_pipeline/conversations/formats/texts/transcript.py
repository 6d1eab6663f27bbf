"""Speaker-tagged text: `Therapist: …` and `Client: …` on lines of their own, with or without times (`speakers`).

It is a whole text, a text under `dialogue`, `transcript` and the like, or a list of tagged strings. A line without a tag continues
the previous turn; lines before the first turn become the metadata `header`, bracketed stage directions `stage_directions`. Within
a line, the tag of a speaker who opens other lines starts a turn if a sentence ends before it. If the whole text is one line, the
tag of any speaker does; text before the first tag is a turn too if it is a sentence or if the other side has none. A tag at the
very end only asks for the next turn.
"""

from itertools import pairwise
import re
from typing import Any

from pixel_pipeline.conversations.formats.fields import first_key, key_names, without
from pixel_pipeline.conversations.formats.roles import assigned_roles, is_numbered, role_of, share_a_role
from pixel_pipeline.conversations.formats.texts.speakers import (
    TAG,
    named_lines,
    short_names,
    speaker,
    unknown_speakers,
)
from pixel_pipeline.conversations.model.records import Message, Parsed, RecordError

NAME = "transcript"
_STRONG = ("dialogue", "dialog", "transcript", "conversation", "conversations", "chat", "session")
_WEAK = ("text", "content")
_HEAD = 20_000
_LINE_END = re.compile("\r\n?|\n|\x85")
# Next to one of these, a text is one turn of several.
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
    return parse(_whole(record[key]), without(record, (key,)))


def parse(text: str, metadata: dict[str, Any]) -> Parsed:
    """Split a text at its speakers' tags.

    Args:
        metadata: The rest of the record; `header`, `stage_directions`, `speakers` and `turn_speakers` are added.

    Raises:
        RecordError: `unknown_role`.
    """
    turns: list[tuple[str, list[str]]] = []
    header: list[str] = []
    stage: list[str] = []
    lines, cuts = _split_one_line(_LINE_END.split(text))
    lines, times = named_lines(lines)
    short = short_names(lines)
    others = unknown_speakers(tag[1] for line in lines if (tag := TAG.match(line)))
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
    roles, inferred = assigned_roles([short.get(name, name) for name in names])
    messages: list[Message] = [
        (role, "\n".join(texts).strip()) for role, (_, texts) in zip(roles, turns, strict=True)
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
    if inferred:
        metadata["speakers"] = dict(zip(names, roles, strict=True))
    if share_a_role(names, roles):
        metadata["turn_speakers"] = [*[None] * opened, *names][: len(messages)]
    repaired = {
        "line_ends": text.count("\r") + text.count("\x85"),
        "inline_speakers": cuts + glued,
        "timestamps": times,
        "assumed_roles": int(inferred or opened),
        "open_turns": int(asks),
    }
    return Parsed(messages, metadata, repaired={kind: n for kind, n in repaired.items() if n})


def speaker_share(text: str) -> float:
    """Return the share of a text's lines that start with a known speaker's tag, 0 to 1."""
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
    """Whether strings are the tagged turns of one conversation, not a transcript each."""
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
        # Any text may quote a dialogue; this one must consist of it.
        filled = sum(not line.isspace() for line in record[weak][:_HEAD].splitlines() if line)
        return weak if tagged >= 0.5 * filled else None
    return None


def _tagged_lines(text: str) -> int:
    """Count the lines with a speaker's tag; 0 if they are rare, as in prose about a conversation."""
    lines = [line for line in _LINE_END.split(text[:_HEAD]) if line.strip()]
    tagged = sum(speaker(line) is not None for line in lines)
    if not tagged and (short := short_names(lines)):
        tagged = sum(1 for line in lines if (tag := TAG.match(line)) and tag[1] in short)
    return tagged if tagged >= 0.05 * len(lines) else 0


def _split_one_line(lines: list[str]) -> tuple[list[str], int]:
    """Split a text without line ends at the speakers' tags; return its lines and the number of cuts."""
    filled = [line for line in lines if line.strip()]
    if len(filled) != 1:
        return lines, 0
    [line] = filled
    tags = list(_INLINE.finditer(line))
    names = [tag[1] or tag[2] for tag in tags]
    others = unknown_speakers(names)
    # In lower case, as translators leave it, a tag may be any word, unless the speaker also occurs capitalised.
    spelled = {*names, line.partition(":")[0].strip()}
    small = {name for name in names if name[0].islower() and name.capitalize() not in spelled}
    starts = (
        tag.start()
        for tag, name in zip(tags, names, strict=True)
        if name in others or (role_of(name) and name not in small)
    )
    cuts = [0, *starts, len(line)]
    pieces = [line[start:end] for start, end in pairwise(cuts)]
    return pieces, len(pieces) - 1


def _split_glued(lines: list[str], others: set[str]) -> tuple[list[str], int]:
    """Split lines at the tags of speakers who open a line elsewhere; return the lines and the number of cuts."""
    tags = [TAG.match(line) for line in lines]
    names = {tag[1] for tag in tags if tag and (tag[1] in others or role_of(tag[1]) or is_numbered(tag[1]))}
    result: list[str] = []
    for line, tag in zip(lines, tags, strict=True):
        start = 0
        # Most lines have no colon apart from their tag's.
        if line.find(":", tag.end() if tag else 0) >= 0 or line.find("：", tag.end() if tag else 0) >= 0:
            for glued in _GLUED.finditer(line, tag.end() if tag else 0):
                if glued[1] in names:
                    result.append(line[start : glued.start()])
                    start = glued.start(1)
        result.append(line[start:])
    return result, len(result) - len(lines)
