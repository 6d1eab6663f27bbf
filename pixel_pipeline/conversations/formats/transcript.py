"""Speaker-tagged text: `Therapist: …` and `Client: …` on lines of their own.

It comes as a whole text, as a text under `dialogue`, `transcript` and the like, or as a list of tagged
strings. A line without a tag goes on with the turn before it; lines before the first turn become the metadata
`header`, bracketed stage directions `stage_directions`. Where the whole text is one line, a speaker's tag
within the line starts a turn too.
"""

from collections import Counter
from itertools import pairwise
import re
from typing import Any

from pixel_pipeline.conversations.formats.fields import besides, first_key, key_names
from pixel_pipeline.conversations.records import Message, Parsed, RecordError
from pixel_pipeline.conversations.roles import required_role, role_of

NAME = "transcript"
_STRONG = ("dialogue", "dialog", "transcript", "conversation", "conversations", "chat", "session")
_WEAK = ("text", "content")
_LOOKED_AT = 20_000
_LINE_END = re.compile("\r\n?|\n|\x85")
# Beside these, a text is one turn of several.
_SPEAKERS = ("role", "speaker", "from", "sender", "author", "replies")
_TAG = re.compile(r"[ \t\"'*_]{0,8}([^\W\d_][^:：\n]{0,39}?)[ \t*_]{0,8}[:：][ \t*_]*")
_STAGE = re.compile(r"\s*(?:\([^()]*\)|（[^（）]*）|\[[^\[\]]*\]|【[^【】]*】)\s*")
_INLINE = re.compile(r"(?<=\s)([A-Z]\w{1,23})[ \t]?[:：]")
# Shaped like a name: up to three words of letters, or up to six ideographs.
_NAME = re.compile(
    r"[A-Z][^\W\d_]*(?:[ _.][A-Z]?[^\W\d_]*){0,2}\d{0,2}"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,6}\d{0,2}"
)
_NOT_NAMES = frozenset(
    [
        "note",
        "notes",
        "ps",
        "nb",
        "example",
        "tip",
        "step",
        "task",
        "goal",
        "http",
        "https",
        "例如",
        "比如",
        "譬如",
        "首先",
        "其次",
        "最后",
        "注意",
        "注",
        "备注",
    ]
)


def matches(record: Any) -> bool:
    if isinstance(record, str):
        return _tagged_lines(record) >= 2
    if isinstance(record, list):
        return _is_turn_list(record[:8])
    return isinstance(record, dict) and _text_key(record) is not None


def convert(record: Any) -> Parsed:
    if isinstance(record, str):
        return _parse(record, {})
    if isinstance(record, list):
        wrong = next((index for index, turn in enumerate(record) if not isinstance(turn, str)), None)
        if wrong is not None:
            raise RecordError(
                "bad_turn", f"turn {wrong} of {len(record)} is {type(record[wrong]).__name__}, not text"
            )
        return _parse(_joined(record), {})
    key = _text_key(record) or ""
    return _parse(record[key], besides(record, (key,)))


def speaker_share(text: str) -> float:
    """Returns which part of the lines of a text starts with a known speaker's tag, 0 to 1."""
    lines = [line for line in text.split("\n") if line.strip()]
    return sum(_speaker(line) is not None for line in lines) / max(1, len(lines))


def _is_turn_list(first: list[Any]) -> bool:
    """Whether tagged strings are the turns of one conversation; each may also be a transcript of its own."""
    texts = [turn for turn in first if isinstance(turn, str)]
    if len(texts) < 2 or _tagged_lines(_joined(texts)) < 2:
        return False
    return sum(_tagged_lines(text) >= 2 for text in texts) <= len(texts) / 2


def _joined(turns: list[Any]) -> str:
    return "\n".join(turn for turn in turns if isinstance(turn, str))


def _text_key(record: dict[str, Any]) -> str | None:
    names = key_names(record)
    strong = first_key(names, _STRONG)
    if strong is not None and isinstance(record[strong], str) and _tagged_lines(record[strong]):
        return strong
    weak = first_key(names, _WEAK)
    if weak is None or first_key(names, _SPEAKERS):
        return None
    if isinstance(record[weak], str) and _tagged_lines(record[weak]) >= 2:
        # Any text may quote a dialogue; here it must be one.
        return weak if speaker_share(record[weak][:_LOOKED_AT]) >= 0.5 else None
    return None


def _tagged_lines(text: str) -> int:
    """Counts lines with a known speaker's tag; 0 where they are rare, as in prose about a conversation."""
    lines = [line for line in _LINE_END.split(text[:_LOOKED_AT]) if line.strip()]
    tagged = sum(_speaker(line) is not None for line in lines)
    return tagged if tagged >= 0.05 * len(lines) else 0


def _speaker(line: str) -> re.Match[str] | None:
    tag = _TAG.match(line)
    return tag if tag and role_of(tag[1]) else None


def _parse(text: str, metadata: dict[str, Any]) -> Parsed:
    turns: list[tuple[str, list[str]]] = []
    header: list[str] = []
    stage: list[str] = []
    repaired = {"line_ends": n} if (n := text.count("\r") + text.count("\x85")) else {}
    lines, split = _split_one_line(_LINE_END.split(text))
    if split:
        repaired["inline_speakers"] = split
    strangers = _strangers(lines)
    for line in lines:
        tag = _TAG.match(line)
        if tag and (role_of(tag[1]) or tag[1] in strangers):
            turns.append((required_role(tag[1]), [line[tag.end() :]]))
        elif _STAGE.fullmatch(line):
            stage.append(line.strip())
        elif turns:
            turns[-1][1].append(line)
        elif line.strip():
            header.append(line.strip())
    messages: list[Message] = [(role, "\n".join(said).strip()) for role, said in turns]
    if header:
        metadata["header"] = header
    if stage:
        metadata["stage_directions"] = stage
    return Parsed(messages, metadata, repaired=repaired)


def _split_one_line(lines: list[str]) -> tuple[list[str], int]:
    """Cuts a text that lost its line ends at the speakers' tags; returns its lines and the number of cuts."""
    said = [line for line in lines if line.strip()]
    if len(said) != 1:
        return lines, 0
    cuts = [0, *(tag.start() for tag in _INLINE.finditer(said[0]) if role_of(tag[1])), len(said[0])]
    pieces = [said[0][start:end] for start, end in pairwise(cuts)]
    return pieces, len(pieces) - 1


def _strangers(lines: list[str]) -> set[str]:
    """Returns tags that look like a name, are in no role table, and come back: somebody else speaks.

    Joined to the turn before, their words would become the therapist's. A tag that comes once is rather a
    heading in a turn.
    """
    tags = Counter(tag[1] for line in lines if (tag := _TAG.match(line)) and _NAME.fullmatch(tag[1]))
    return {
        tag for tag, n in tags.items() if n > 1 and role_of(tag) is None and tag.casefold() not in _NOT_NAMES
    }
