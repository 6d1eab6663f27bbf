"""Metadata for the UI: counts, sizes, locations and tables. Never conversation text.

The overview of an asset cuts cells that are too wide for its column, so tables have few columns and digests are short. Markdown of a
thousand characters and more opens on a click.
"""

from collections.abc import Mapping, Sequence

import dagster as dg

DIGEST_CHARACTERS = 12


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
    """A readable size: `3.2 MB`."""
    value, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def megabytes(n_bytes: int) -> float:
    """Bytes in MB, with three significant digits: a number that Dagster can plot."""
    return float(f"{n_bytes / 1e6:.3g}")


def digest(text: str) -> str:
    """The first characters of a digest: enough to compare by eye, short enough to be shown whole."""
    return text[:DIGEST_CHARACTERS]


def figures(values: Mapping[str, float | int], *, reused: bool) -> dict[str, float | int | str]:
    """Numbers that Dagster plots over time; as text if the result was reused, so that the plots skip the run."""
    if not reused:
        return dict(values)
    return {name: f"{value:,}" for name, value in values.items()}


def readable(values: Mapping[str, float | int | str]) -> dict[str, float | int | str]:
    """Figures of another module: words instead of identifiers, and four significant digits."""
    return {
        name.replace("_", " "): float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in values.items()
    }


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("|", "\\|")
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
