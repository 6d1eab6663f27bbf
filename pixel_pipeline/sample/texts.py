"""Read the dialogue templates: plain text files that a non-programmer can extend.

    == alcohol                      a book: a theme, a topic of conversation, or a set of phrases
    label: the drinking             a field of the book
    -- opening                      a section; each line below it is one template
    I (told|promised) {friend} … => you told {friend} …

`(a|b)` is a choice, `{name}` a slot of the persona. After `=>` follows the echo, the counsellor's reflection of the same statement
in the second person; `@you` marks an object in it ("frightens @you"), which the third person needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from random import Random
import re

_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_SENTENCE_START = re.compile(r'(^"?|[.!?]"? "?|[.!?]"?\n+"?|: ")([a-z])')
_TO_THIRD_PERSON = {
    "you": "they",
    "@you": "them",
    "your": "their",
    "yours": "theirs",
    "yourself": "themselves",
}
_OBJECT = re.compile(r"\b(about|against|at|beside|for|from|in|of|on|to|with) you\b")
_SECOND_PERSON = re.compile(r"(?:@you|\b(?:you|your|yours|yourself))\b")

THEME_GROUPS = ("addiction", "cptsd", "grief", "couples_family", "professional", "crisis")
"""Template files of themes, the problems that clients bring."""


class Template:
    """A line with its choices parsed once, so that drawing is a join and a format."""

    __slots__ = ("_parts",)

    def __init__(self, line: str) -> None:
        pieces = _CHOICE.split(line)
        self._parts = [piece.split("|") if index % 2 else [piece] for index, piece in enumerate(pieces)]

    def draw(self, rng: Random, slots: Mapping[str, str]) -> str:
        """Make each choice and fill each slot."""
        text = "".join(
            part[0] if len(part) == 1 else part[int(rng.random() * len(part))] for part in self._parts
        )
        return text.format_map(slots)


@dataclass(frozen=True)
class Line:
    """A line and its echo; None if it is never reflected."""

    text: Template
    echo: Template | None


@dataclass
class Book:
    """A theme, topic or set of phrases: its fields, and its lines by section."""

    name: str
    fields: dict[str, str] = field(default_factory=dict)
    sections: dict[str, list[Line]] = field(default_factory=dict)


@cache
def books(file: str) -> dict[str, Book]:
    """Read the books of one template file by name, in file order.

    Raises:
        ValueError: A line is outside a section; the message names file and line number.
    """
    source = resources.files("pixel_pipeline.sample").joinpath("templates", f"{file}.txt")
    found: dict[str, Book] = {}
    book: Book | None = None
    section: list[Line] | None = None
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        if line.startswith("== "):
            name = line[3:].strip()
            book, section = found.setdefault(name, Book(name)), None
        elif book is not None and line.startswith("-- "):
            section = book.sections.setdefault(line[3:].strip(), [])
        elif book is not None and section is None and ":" in line:
            key, _, value = line.partition(":")
            book.fields[key.strip()] = value.strip()
        elif section is not None:
            text, _, echo = line.partition(" => ")
            section.append(Line(Template(text), Template(echo) if echo else None))
        else:
            raise ValueError(
                f"templates/{file}.txt:{number}: expected '== book' or '-- section' before a line"
            )
    return found


@cache
def themes(group: str) -> tuple[Book, ...]:
    """Return the themes of one of THEME_GROUPS."""
    return tuple(books(group).values())


def phrases(speaker: str) -> Book:
    """Return the phrases of `client` or `counsellor`, or of reports between sessions (`progress`)."""
    return books("phrases")[speaker]


def second_person(echo: str) -> str:
    """Address an echo to the client."""
    return echo.replace("@you", "you")


def third_person(echo: str) -> str:
    """Turn an echo into a statement about the client, as `they`; verbs keep their form."""
    marked = _OBJECT.sub(r"\1 @you", echo)
    return _SECOND_PERSON.sub(lambda match: _TO_THIRD_PERSON[match[0]], marked)


def sentences(text: str) -> str:
    """Capitalise sentence starts; slots and echoes are lower case."""
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)
