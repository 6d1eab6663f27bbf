"""The rest of an array that damage made unreadable as one: elements that are whole, found again by how they begin."""

import json
import re

from pixel_pipeline.lake.json_elements import Element

_FIRST_KEY = re.compile(r'[\s,\]}\[]*+\{[ \t\r\n]*("(?:[^"\\\n]|\\.)*+")[ \t\r\n]*:')
_ANY = r"(?<=[,\n\[])[ \t]*\{"
_BETWEEN = re.compile(r"[\s,]*+")
# Only to find where a value ends: numbers of any length are left as they are.
EXTENT = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_MOST_SEARCHED = 4


def resynchronised(rest: bytes, *, offset: int) -> tuple[list[Element], int]:
    """Returns elements of an array's rest, whole ones and, between them, what is damaged, and how many of them are that; none
    where no whole one is left.

    An element is taken to begin with the key with which the rest begins; only objects are found.

    Args:
        rest: From an element, a comma or a bracket on.
        offset: Of its first byte.
    """
    text = rest.decode("utf-8", "surrogateescape")
    first = _FIRST_KEY.match(text)
    opening = re.compile(_ANY if first is None else rf"\{{[ \t\r\n]*{re.escape(first[1])}[ \t\r\n]*:")
    found: list[Element] = []
    whole = position = searched = 0
    while (start := _BETWEEN.match(text, position).end()) < len(text):  # type: ignore[union-attr]
        offset += len(_encoded(text[position:start]))
        position = start
        is_whole = False
        if text[start] == "{":
            try:
                _, end = EXTENT.raw_decode(text, start)
                is_whole = True
            except json.JSONDecodeError as error:
                searched += error.pos - start
            except RecursionError:
                searched += len(text)
        if not is_whole:
            # A search that begins again and again has an end.
            following = opening.search(text, start + 1) if searched <= _MOST_SEARCHED * len(text) else None
            end = len(text) if following is None else following.start()
        data = _encoded(text[start:end])
        if is_whole or data.strip(b" \t\r\n,]}["):
            found.append(Element(offset, data.rstrip(), len(data.rstrip())))
            whole += is_whole
        offset += len(data)
        position = end
    return (found, len(found) - whole) if whole else ([], 0)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
