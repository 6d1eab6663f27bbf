"""Headers of tables: recognising one, and naming its columns."""

import re

_COLUMN = re.compile(r"[^\W\d][\w .()/#%&?+:-]{0,63}")
_SINGLE_COLUMNS = frozenset(["dialogue", "dialog", "conversation", "transcript", "text", "chat", "content"])
TEXT_COLUMNS = _SINGLE_COLUMNS | frozenset(
    ("chosen", "rejected", "prompt", "question", "input", "context", "instruction", "message")
)
"""Names of columns that may hold whole dialogues."""


def is_header(row: list[str]) -> bool:
    """Whether cells are names of columns: short, and at most one of them empty."""
    names = [name.strip() for name in row]
    if len(names) == 1:
        return names[0].lower() in _SINGLE_COLUMNS
    named = [name for name in names if name]
    return len(named) >= len(names) - 1 and all(
        _COLUMN.fullmatch(name) and len(name.split()) <= 6 for name in named
    )


def unique_names(row: list[str]) -> list[str]:
    """Return a unique name for each column: `column_1` if it has none, a suffix `_2` if the name occurs again."""
    names: list[str] = []
    seen: set[str] = set()
    last: dict[str, int] = {}
    for index, cell in enumerate(row):
        base = cell.strip() or f"column_{index + 1}"
        name, n = base, last.get(base, 1)
        while name in seen:
            n += 1
            name = f"{base}_{n}"
        last[base] = n
        seen.add(name)
        names.append(name)
    return names
