"""Removal of the leftovers of web exports: HTML entities, tags, and text decoded with the wrong encoding (mojibake).

Each is repaired only if the text itself gives evidence, and never in a text that contains code.
"""

import html
from html.entities import html5
import re

import ftfy

from pixel_pipeline.conversations.model.records import count

_CODE = re.compile(
    r"```|`[^`\n]*[<&]|<(?:code|pre|html|head|body|script|style|!DOCTYPE)\b|</(?:code|pre)>|\bclass\s*=",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{2,7}|#[xX][0-9a-fA-F]{2,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_NESTED = re.compile(r"&(?:amp;)+(?=#?\w{2,31};)")
_TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)(?:\s[^<>]{0,500})?/?>")
_BREAK = re.compile(r"[ \t]*<br\s*/?>[ \t]*\n?", re.IGNORECASE)
_PROSE = frozenset(["p", "br", "b", "i", "u", "em", "strong", "a", "ul", "ol", "li", "span", "div", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "font", "hr", "small", "sub", "sup"])  # fmt: skip
_BLOCKS = frozenset(["p", "div", "ul", "ol", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr"])
_MANY_FEEDS = re.compile(r"\n{3,}")
# UTF-8 read as cp1252 or latin-1: two to four characters for one.
_MOJIBAKE = re.compile(
    "[\xc2-\xf4][\x80-\xbf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)


def without_markup(text: str, repaired: dict[str, int]) -> str:
    """Return text without HTML.

    Args:
        repaired: Counts replaced `html_entities` and `html_tags`.
    """
    if _CODE.search(text):
        return text
    if "<" in text:
        text = _without_tags(text, repaired)
    if "&" in text:
        text, chains = _NESTED.subn("&", text)
        found = 0

        def replaced(entity: re.Match[str]) -> str:
            nonlocal found
            name = entity[0][1:]
            # `unescape` would also replace an entity that is only the beginning of a word.
            character = html.unescape(entity[0]) if name[0] == "#" else html5.get(name, entity[0])
            if character in (entity[0], "\ufffd") or not (character.isprintable() or character in "\n\t\xa0"):
                return entity[0]
            found += 1
            return " " if character == "\xa0" else character

        text = _ENTITY.sub(replaced, text)
        count(repaired, "html_entities", found + chains)
    return text


def without_mojibake(text: str, repaired: dict[str, int]) -> str:
    """Return text in which UTF-8 that was decoded as a single-byte encoding is decoded correctly.

    Args:
        repaired: Counts changed texts as `mojibake`.
    """
    if _MOJIBAKE.search(text) is None:
        return text
    fixed = ftfy.fix_encoding(text)
    # A smiley may look like mojibake; a real repair makes the text shorter and adds no replacement characters.
    if fixed == text or len(fixed) >= len(text) or fixed.count("\ufffd") > text.count("\ufffd"):
        return text
    count(repaired, "mojibake", 1)
    return fixed


def _without_tags(text: str, repaired: dict[str, int]) -> str:
    tags = _TAG.findall(text)
    names = {name.lower() for name in tags}
    # `List<T>` and `a <b and c> d` are not HTML, and a text about HTML has other tags too.
    if not names or not names <= _PROSE:
        return text
    paired = all(f"</{name}" in text.lower() for name in names - {"br", "hr", "p", "li"})
    if not paired or not (names & {"br", "hr"} or "</" in text):
        return text
    text = _BREAK.sub("\n", text)

    def layout(tag: re.Match[str]) -> str:
        name = tag[1].lower()
        if name == "li":
            return "" if tag[0].startswith("</") else "\n- "
        return "\n\n" if name in _BLOCKS else ""

    text = _MANY_FEEDS.sub("\n\n", _TAG.sub(layout, text)).strip()
    count(repaired, "html_tags", len(tags))
    return text
