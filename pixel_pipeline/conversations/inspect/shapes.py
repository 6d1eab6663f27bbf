"""Describes the structure of records without their text: keys, types, lengths of lists, spellings of speakers."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pixel_pipeline.conversations.formats.fields import nameable_keys
from pixel_pipeline.conversations.formats.roles import is_numbered, role_of
from pixel_pipeline.conversations.formats.texts import transcript
from pixel_pipeline.conversations.formats.texts.speakers import speaker

MAX_DEPTH = 5
MAX_KEYS = 12
MAX_ITEMS = 100
_SPEAKER_KEYS = frozenset(["role", "from", "speaker", "sender", "author", "user"])
# An object with one of these keys is a turn; without them, an author is the author of a document.
_TEXT_KEYS = frozenset(["content", "text", "value", "utterance", "message", "body", "parts"])
OTHERS = "others"
"""Replaces spellings outside the role table, which may be names of people."""
_MAX_LINES = 1_000


class Shape:
    """The common structure of values. `add` them one by one."""

    def __init__(self) -> None:
        self._seen = 0
        self._scalars: set[str] = set()
        self._objects = 0
        self._fields: dict[str, Shape] = {}
        self._unnamed = 0
        self._lengths: list[int] = []
        self._items: Shape | None = None

    def add(self, value: Any, *, depth: int = 0) -> None:
        """Add a value."""
        self._seen += 1
        if isinstance(value, dict):
            self._objects += 1
            named = nameable_keys(value)
            self._unnamed = max(self._unnamed, len(value) - len(named))
            for key in named if depth < MAX_DEPTH else ():
                self._fields.setdefault(key, Shape()).add(value[key], depth=depth + 1)
        elif isinstance(value, list | tuple):
            self._lengths.append(len(value))
            if depth < MAX_DEPTH:
                self._items = self._items or Shape()
                for item in value[:MAX_ITEMS]:
                    self._items.add(item, depth=depth + 1)
        else:
            self._scalars.add(_scalar(value))

    def __str__(self) -> str:
        kinds = sorted(self._scalars - {"null"})
        if self._objects:
            kinds.append(self._object())
        if self._lengths:
            kinds.append(self._list())
        if "null" in self._scalars:
            kinds.append("null")
        return " or ".join(kinds) or "nothing"

    def _object(self) -> str:
        parts = [
            f"{key}{'' if field._seen == self._objects else '?'}: {field}"
            for key, field in list(self._fields.items())[:MAX_KEYS]
        ]
        if more := len(self._fields) - MAX_KEYS:
            parts += [f"{more} more keys"] if more > 0 else []
        if self._unnamed:
            parts.append(f"{self._unnamed} keys that are not identifiers")
        return "{" + ", ".join(parts) + "}"

    def _list(self) -> str:
        least, most = min(self._lengths), max(self._lengths)
        count = f"{least}" if least == most else f"{least}–{most}"
        return f"{count} × {self._items}" if self._items and most else "empty list"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def shapes_of(values: Iterable[Any]) -> list[tuple[int, str]]:
    """Describe values, grouped by their keys. Returns (count, description), most frequent first."""
    shapes: dict[Any, Shape] = {}
    for value in values:
        group = frozenset(value) if isinstance(value, dict) else type(value)
        shapes.setdefault(group, Shape()).add(value)
    return sorted(((shape._seen, str(shape)) for shape in shapes.values()), key=lambda shape: -shape[0])


def speakers_of(values: Iterable[Any]) -> Counter[str]:
    """Count the spellings of speakers, in turn objects and in lines that start with a speaker tag."""
    found: Counter[str] = Counter()
    for value in values:
        _count_speakers(value, found, in_lines=transcript.matches(value))
    return found


def _count_speakers(value: Any, found: Counter[str], *, in_lines: bool, depth: int = 0) -> None:
    if isinstance(value, str) and in_lines:
        for line in value.split("\n", _MAX_LINES)[:_MAX_LINES]:
            if (tag := speaker(line)) is not None:
                found[tag] += 1
    if depth > MAX_DEPTH or not isinstance(value, dict | list):
        return
    if isinstance(value, list):
        for item in value:
            _count_speakers(item, found, in_lines=in_lines, depth=depth + 1)
        return
    speaks = not _TEXT_KEYS.isdisjoint(map(str.lower, value))
    for key, item in value.items():
        if speaks and key.lower() in _SPEAKER_KEYS and isinstance(item, str | int):
            spelling = str(item)
            known = role_of(spelling) is not None or is_numbered(spelling)
            found[spelling if known else OTHERS] += 1
        else:
            _count_speakers(item, found, in_lines=in_lines, depth=depth + 1)
