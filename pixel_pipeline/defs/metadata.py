"""Metadata that reads well in the UI. Counts, sizes, URIs; never a word of a conversation."""

from collections.abc import Mapping, Sequence

import dagster as dg


def table(rows: Sequence[Mapping[str, object]]) -> dg.MetadataValue:
    """Rows of equal keys as a Markdown table, numbers with thousands separators."""
    if not rows:
        return dg.MetadataValue.md("*nothing*")
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |"]
    lines.append(
        "|" + "|".join("---:" if isinstance(rows[0][name], int | float) else "---" for name in names) + "|"
    )
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines))


def counts(values: Mapping[str, int]) -> str:
    """`{"a": 1, "b": 2}` as `a 1, b 2`."""
    return ", ".join(f"{name} {n:,}" for name, n in sorted(values.items())) or "—"


def size(n_bytes: int) -> str:
    """Bytes for people: `3.2 MB`."""
    value, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("|", "\\|")
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
