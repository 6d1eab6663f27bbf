"""Reads the dialogue templates, plain text files that somebody who is no programmer can extend.

    == alcohol                      a book: a theme, a topic of conversation, or a set of phrases
    label: the drinking             a field of the book
    -- opening                      a section; each line below it is one template
    I (told|promised) {friend} … => you told {friend} …

`(a|b)` is a choice, `{name}` a slot of the persona. What stands behind `=>` is the same thing as the counsellor says it back, in
the second person; `@you` marks an object there ("frightens @you"), so that it can also be told in the third person.
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
"""Files of templates that hold themes: what a client comes with."""


class Template:
    """One line with its choices taken apart once, so that drawing from it is a join and a format."""

    __slots__ = ("_parts",)

    def __init__(self, line: str) -> None:
        pieces = _CHOICE.split(line)
        self._parts = [piece.split("|") if index % 2 else [piece] for index, piece in enumerate(pieces)]

    def draw(self, rng: Random, slots: Mapping[str, str]) -> str:
        """Returns the line with each choice made and each slot filled."""
        text = "".join(
            part[0] if len(part) == 1 else part[int(rng.random() * len(part))] for part in self._parts
        )
        return text.format_map(slots)


@dataclass(frozen=True)
class Line:
    """What is said, and how it is said back (None where it never is)."""

    says: Template
    echo: Template | None


@dataclass
class Book:
    """One theme, topic or set of phrases: its fields, and its lines by section."""

    name: str
    fields: dict[str, str] = field(default_factory=dict)
    sections: dict[str, list[Line]] = field(default_factory=dict)


@cache
def books(file: str) -> dict[str, Book]:
    """Returns the books of one template file by name, in the order of the file.

    Raises:
        ValueError: A line stands outside a section; the message names file and line number.
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
            says, _, echo = line.partition(" => ")
            section.append(Line(Template(says), Template(echo) if echo else None))
        else:
            raise ValueError(
                f"templates/{file}.txt:{number}: expected '== book' or '-- section' before a line"
            )
    return found


@cache
def themes(group: str) -> tuple[Book, ...]:
    """Returns the themes of one of THEME_GROUPS."""
    return tuple(books(group).values())


def phrases(speaker: str) -> Book:
    """Returns the phrases of `client` or `counsellor`, or of reports on the time between sessions (`progress`)."""
    return books("phrases")[speaker]


def second_person(echo: str) -> str:
    """Returns an echo as it is said to the client."""
    return echo.replace("@you", "you")


def third_person(echo: str) -> str:
    """Returns an echo as it is said about the client, who is `they`; verbs keep their form."""
    marked = _OBJECT.sub(r"\1 @you", echo)
    return _SECOND_PERSON.sub(lambda found: _TO_THIRD_PERSON[found[0]], marked)


def sentences(text: str) -> str:
    """Returns a text with a capital at each start of a sentence; slots and echoes come in lower case."""
    return _SENTENCE_START.sub(lambda found: found[1] + found[2].upper(), text)
