"""Tables on stdout: whole in a pipe or a file, folded to the width of a terminal."""

from collections.abc import Sequence
from io import StringIO
import re
import sys
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pixel_pipeline.cli.console import out, printable

# Left margin, and the gap after each column; a narrow terminal gets gaps of one space.
_MARGIN, _GAP = 1, 2
# Names break after these letters before they break anywhere else.
_PIECE = re.compile(r"[^\s_/.,-]*[\s_/.,-]+|[^\s_/.,-]+")


class Column(NamedTuple):
    """A column. Numbers are right-aligned and never broken."""

    name: str
    numeric: bool = False
    footer: str = ""


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table on stdout."""
    cells = [[printable(cell) for cell in row] for row in rows]
    footers = [column.footer for column in columns]
    content = [[column.name for column in columns], *cells, footers]
    widths = [max(map(cell_len, column)) for column in zip(*content, strict=True)]
    least = [
        max(map(cell_len, [*body, *column.name.split(), footer]), default=0)
        if column.numeric
        else max((cell_len(piece.rstrip()) for text in body for piece in _PIECE.findall(text)), default=0)
        for column, footer, *body in zip(columns, footers, *cells, strict=True)
    ]
    gap = _GAP
    if out.is_terminal:
        natural = widths
        for gap in (_GAP, 1):
            widths = fit(natural, least=least, available=out.width - _MARGIN - gap * len(columns))
            if _MARGIN + sum(widths) + gap * len(columns) <= out.width:
                break
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        # The box itself leaves one space between columns.
        padding=(0, gap - 1, 0, 0),
        show_footer=any(footers),
    )
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            "\n".join(fold(column.name, width)),
            footer=column.footer,
            justify="right" if column.numeric else "left",
            width=width,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(Text("\n".join(fold(cell, width))) for cell, width in zip(row, widths, strict=True)))
    rendered = StringIO()
    Console(
        file=rendered,
        # A terminal that is narrower than the numbers wraps the lines itself.
        width=_MARGIN + sum(widths) + gap * len(columns),
        force_terminal=out.is_terminal,
        color_system="auto" if out.is_terminal else None,
        highlight=False,
    ).print(table)
    lines = [line.rstrip() for line in rendered.getvalue().splitlines()]
    sys.stdout.write("\n".join(lines).strip("\n") + "\n")


def fit(widths: Sequence[int], *, least: Sequence[int], available: int) -> list[int]:
    """Shrink the widest columns until the sum is `available`, or every column has its least width."""
    fitted = [*widths]
    while sum(fitted) > available:
        number = max(range(len(fitted)), key=lambda n: fitted[n] if fitted[n] > least[n] else 0)
        if fitted[number] <= least[number]:
            break
        fitted[number] -= 1
    return fitted


def fold(text: str, width: int) -> list[str]:
    """Break a text after spaces and the punctuation of names; a longer piece stays whole."""
    lines = [""]
    for piece in _PIECE.findall(text):
        if lines[-1] and cell_len(lines[-1]) + cell_len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]
