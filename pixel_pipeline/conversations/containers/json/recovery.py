"""The rest of an array or object that damage made unreadable as one: what is whole of it, found again by how it begins."""

import json
import re
from typing import NamedTuple

from pixel_pipeline.lake.loader.json_elements import Element

_FIRST_KEY = re.compile(r'[\s,\]}\[]*+\{[ \t\r\n]*("(?:[^"\\\n]|\\.)*+")[ \t\r\n]*:')
_ANY = r"(?<=[,\n\[])[ \t]*\{"
_KEY = r'"(?:[^"\\\n]|\\.)*+"[ \t]*:'
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_BETWEEN = re.compile(r"[\s,]*+")
# Only to find where a value ends: numbers of any length are left as they are.
_EXTENT = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_MOST_SEARCHED = 4
_LEAST_LIMIT = 4 << 20
_WINDOW = 16 << 10
_NEAR_END = 8


class Resynchronised(NamedTuple):
    """What was found.

    Attributes:
        elements: Whole ones and, between them, what is damaged; none where no whole one is left.
        damaged: How many of them are that.
        left: The end of the text, where it goes on: an element may have been cut there.
        left_offset: Offset of its first byte.
    """

    elements: list[Element]
    damaged: int
    left: bytes
    left_offset: int


def resynchronised(
    rest: bytes, *, offset: int, members: bool = False, goes_on: bool = False
) -> Resynchronised:
    """Finds the elements of an array's rest.

    Only objects are found, and members: those that begin a line, indented least; or that begin with the key with which the rest
    begins.

    Args:
        rest: From an element or member, a comma or a bracket on.
        offset: Of its first byte.
        members: It is an object's.
        goes_on: There is more of it: what is damaged at its end may be whole.
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
            if following is None and goes_on:
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
    ways = [
        *([] if indent is None else [rf"(?<=\n){indent}{begins}"]),
        *([] if first is None else [rf"\{{[ \t\r\n]*{re.escape(first[1])}[ \t\r\n]*:"]),
    ]
    return re.compile("|".join(ways) or _ANY)


class DamagedError(Exception):
    """A value is damaged. `searched`: characters looked at to find that out."""

    def __init__(self, searched: int) -> None:
        super().__init__(searched)
        self.searched = searched


def most_searched(text: str) -> int:
    """Returns how many characters may be looked at in vain: a search that begins again and again has an end."""
    return max(_LEAST_LIMIT, _MOST_SEARCHED * len(text))


def end_of(text: str, start: int, *, member: bool = False) -> int:
    """Returns where a value ends; or a member, a key with its value.

    Raises:
        DamagedError
    """
    size = _WINDOW
    while True:
        # An error counts the lines of all the text before it: it only gets a part.
        part = text[start : start + size]
        try:
            end = _part_end(part, member=member)
            if end < len(part) or start + size >= len(text):
                return start + end
            size *= 8  # a number may go on
        except json.JSONDecodeError as error:
            unended = error.msg.startswith("Unterminated")
            if start + size >= len(text) or not (unended or error.pos > len(part) - _NEAR_END):
                raise DamagedError(len(part) if unended else error.pos) from None
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
