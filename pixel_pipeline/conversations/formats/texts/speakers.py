"""Speakers at the start of a line: `Therapist: …`, `[00:01:02] Sarah: …`, `Speaker 1  0:03`, `## User`, `Q: …`."""

from collections import Counter
from collections.abc import Iterable, Sequence
import re

from pixel_pipeline.conversations.formats.roles import is_numbered, role_of

TAG = re.compile(r"[ \t\"'*_>]{0,8}([^\W\d_][^:：\n]{0,39}?)[ \t*_]{0,8}[:：][ \t*_]*")
_DATE = r"(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4},?[ T]{1,2})?"
_TIME = rf"[\[(]?{_DATE}\d{{1,2}}:\d{{2}}(?::\d{{2}})?(?:[.,]\d{{1,3}})?(?:[ \u202f]?[AaPp]\.?[Mm]\.?)?[\])]?"
_HAS_TIME = re.compile(r"\d:\d\d")
_BEFORE = re.compile(rf"[ \t]*{_TIME}[ \t]*(?:[-–—|][ \t]*)?(?=[^\W\d_*])")
_BEHIND = re.compile(rf"[ \t*_]*([^\W\d_][\w .'’-]{{0,38}}?)[ \t*_]*,?[ \t]+{_TIME}[ \t*_]*(?:[:：][ \t]*|$)")
_HEADING = re.compile(
    r"[ \t]*(?:#{1,6}[ \t]+|\*\*)([^\W\d_][\w ]{0,30}?)[ \t]*[:：]?[ \t]*(?:\*\*)?[ \t]*[:：]?[ \t]*"
)
# Shaped like a name: up to three words of letters, or up to six ideographs.
_NAME = re.compile(
    r"[A-Z][^\W\d_]*(?:[ _.][A-Z]?[^\W\d_]*){0,2}\d{0,2}"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,6}\d{0,2}"
)
_NOT_NAMES = frozenset([
    "note", "notes", "ps", "nb", "example", "tip", "step", "task", "goal", "time", "date", "http", "https",
    "例如", "比如", "譬如", "首先", "其次", "最后", "注意", "注", "备注",
])  # fmt: skip
# Letters and words that name speakers only if both of a pair occur: the user's, the assistant's.
_PAIRS = (
    ("Q", "A"), ("Question", "Answer"), ("问", "答"), ("问题", "回答"), ("C", "T"), ("P", "T"), ("CL", "TH"), ("CL", "CO"),
    ("PT", "DR"), ("P", "D"), ("A", "B"), ("甲", "乙"),
)  # fmt: skip


def named_lines(lines: Sequence[str]) -> tuple[list[str], int]:
    """Rewrite lines so that every speaker is given as `Name: text`; return them and the number of timestamps."""
    named = [_named(line) for line in lines]
    return [line for line, _ in named], sum(timed for _, timed in named)


def speaker(line: str) -> str | None:
    """Return the known or numbered speaker at the start of a line, or None."""
    tag = TAG.match(_named(line)[0])
    return tag[1] if tag and (role_of(tag[1]) or is_numbered(tag[1])) else None


def short_names(lines: Sequence[str]) -> dict[str, str]:
    """Return the roles of speakers named by a letter or a word like `Answer`, if both of a pair clearly speak.

    In a text that also has known speakers, `A:` and `B:` are more likely a list.
    """
    tags = Counter(tag[1] for line in lines if (tag := TAG.match(line)))
    if any(role_of(name) or is_numbered(name) for name in tags):
        return {}
    filled = sum(1 for line in lines if line.strip())
    for user, assistant in _PAIRS:
        both = tags[user] + tags[assistant]
        if (
            tags[user]
            and tags[assistant]
            and both >= 0.2 * filled
            and abs(tags[user] - tags[assistant]) <= 0.5 * both
        ):
            return {user: "user", assistant: "assistant"}
    return {}


def unknown_speakers(names: Iterable[str]) -> set[str]:
    """Return repeated names of speakers without a known role.

    Appended to the previous turn, their words would be attributed to its speaker. A tag that occurs once is more likely a
    heading within a turn.
    """
    tags = Counter(name for name in names if _NAME.fullmatch(name))
    return {
        tag for tag, n in tags.items() if n > 1 and role_of(tag) is None and tag.casefold() not in _NOT_NAMES
    }


def _named(line: str) -> tuple[str, bool]:
    if _HAS_TIME.search(line):
        before = _BEFORE.match(line)
        rest = line[before.end() :] if before else line
        if before and (tag := TAG.match(rest)) and _is_speaker(tag[1]):
            return rest, True
        behind = _BEHIND.match(rest)
        if behind and _is_speaker(behind[1]):
            return f"{behind[1]}: {rest[behind.end() :]}", True
        return line, False
    heading = _HEADING.fullmatch(line)
    return (f"{heading[1]}: ", False) if heading and role_of(heading[1]) else (line, False)


def _is_speaker(name: str) -> bool:
    return role_of(name) is not None or is_numbered(name) or _NAME.fullmatch(name) is not None
