"""Recovery of the whole elements in a damaged part of an array or object."""

import json
import re
from typing import NamedTuple

from pixel_pipeline.lake.loader.json_elements import Element

_FIRST_KEY = re.compile(r'[\s,\]}\[]*+\{[ \t\r\n]*("(?:[^"\\\n]|\\.)*+")[ \t\r\n]*:')
_ANY = r"(?<=[,\n\[])[ \t]*\{"
_KEY = r'"(?:[^"\\\n]|\\.)*+"[ \t]*:'
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_BETWEEN = re.compile(r"[\s,]*+")
# Only finds the end of a value: numbers of any length stay text.
_EXTENT = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_MOST_SEARCHED = 4
_LEAST_LIMIT = 4 << 20
_WINDOW = 16 << 10
_NEAR_END = 8


class Resynchronised(NamedTuple):
    """Elements recovered from a damaged text.

    Attributes:
        elements: Whole elements and the damaged text between them; empty if no element is whole.
        damaged: Number of damaged ones among them.
        left: The end of the text if more of it follows: an element may have been cut there.
        left_offset: Offset of its first byte.
    """

    elements: list[Element]
    damaged: int
    left: bytes
    left_offset: int


def resynchronised(
    rest: bytes, *, offset: int, members: bool = False, more_follows: bool = False
) -> Resynchronised:
    """Find the elements in the rest of an array.

    Only objects and members are found: those that begin a line with the least indentation, or that begin with the same key as the
    rest.

    Args:
        rest: Text from an element or member, a comma or a bracket on.
        offset: Offset of its first byte.
        members: Whether it contains members of an object instead of elements.
        more_follows: Whether more text follows, so that a damaged element at the end may be whole.
    """
    text = rest.decode("utf-8", "surrogateescape")
    opening = _opening(text, members=members)
    limit = most_searched(text)
    found: list[Element] = []
    whole = position = searched = 0
    while (start := _BETWEEN.match(text, position).end()) < len(text):  # type: ignore[union-attr]
        offset += len(_encoded(text[position:start]))
        position = start
        is_whole = False
        if text[start] == ('"' if members else "{"):
            try:
                end = end_of(text, start, member=members)
                is_whole = True
            except DamagedError as error:
                searched += error.searched
        if not is_whole:
            following = opening.search(text, start + 1) if searched <= limit else None
            if following is None and more_follows:
                break
            end = len(text) if following is None else following.start()
        data = _encoded(text[start:end])
        if is_whole or data.strip(b" \t\r\n,]}["):
            found.append(Element(offset, data.rstrip(), len(data.rstrip())))
            whole += is_whole
        offset += len(data)
        position = end
    left = _encoded(text[position:])
    return Resynchronised(found if whole else [], len(found) - whole, left, offset)


def _opening(text: str, *, members: bool) -> re.Pattern[str]:
    begins = _KEY if members else r"\{"
    lines = re.finditer(rf"\n([ \t]*){begins}", text)
    indent = min((line[1] for line in lines), key=len, default=None)
    first = None if members else _FIRST_KEY.match(text)
    patterns = [
        *([] if indent is None else [rf"(?<=\n){indent}{begins}"]),
        *([] if first is None else [rf"\{{[ \t\r\n]*{re.escape(first[1])}[ \t\r\n]*:"]),
    ]
    return re.compile("|".join(patterns) or _ANY)


class DamagedError(Exception):
    """A value is damaged. `searched`: characters searched to find that out."""

    def __init__(self, searched: int) -> None:
        super().__init__(searched)
        self.searched = searched


def most_searched(text: str) -> int:
    """Return the number of characters that may be searched in vain, so that repeated searches end."""
    return max(_LEAST_LIMIT, _MOST_SEARCHED * len(text))


def end_of(text: str, start: int, *, member: bool = False) -> int:
    """Return the end of a value, or of a member: a key with its value.

    Raises:
        DamagedError
    """
    size = _WINDOW
    while True:
        # The decoder's error counts the lines of all text before it, so it only gets a part.
        part = text[start : start + size]
        try:
            end = _part_end(part, member=member)
            if end < len(part) or start + size >= len(text):
                return start + end
            size *= 8  # a number may continue
        except json.JSONDecodeError as error:
            unterminated = error.msg.startswith("Unterminated")
            if start + size >= len(text) or not (unterminated or error.pos > len(part) - _NEAR_END):
                raise DamagedError(len(part) if unterminated else error.pos) from None
            size *= 8
        except RecursionError:
            raise DamagedError(len(part)) from None


def _part_end(part: str, *, member: bool) -> int:
    _, end = _EXTENT.raw_decode(part)
    if member:
        colon = _COLON.match(part, end)
        if colon is None:
            raise json.JSONDecodeError("no colon", part, end)
        _, end = _EXTENT.raw_decode(part, colon.end())
    return int(end)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
