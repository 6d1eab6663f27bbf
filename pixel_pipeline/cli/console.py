"""Terminal output: results on stdout; progress, notes and errors on stderr."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
import io
import sys
from typing import Annotated, Any, NamedTuple

import orjson
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text
import typer

err = Console(stderr=True, highlight=False)
out = Console(highlight=False)

# An option without a value; Typer would show the type <bool>.
Flag = partial(typer.Option, metavar="")
Json = Annotated[bool, Flag("--json", help="Print one JSON document on stdout.")]
# Wide enough for every table, so that a pipe or a file gets each row on one line.
_UNLIMITED_WIDTH = 10_000
# Numbers are never cut: a narrower terminal wraps the lines itself.
_NARROWEST_TABLE = 80


class Column(NamedTuple):
    """A column of `print_table`."""

    name: str
    numeric: bool = False
    footer: str = ""


def print_json(value: Any) -> None:
    """Print one indented JSON document on stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


def say(line: str, *, style: str | None = None) -> None:
    """Print a line on stderr."""
    err.print(Text(line, style=style or ""), soft_wrap=True)


def suggest_next(command: str) -> None:
    """Print the command that usually comes next, on stderr."""
    err.print(Text("Next: ").append(command, style="bold"), soft_wrap=True)


def show_error(message: str, hint: str | None = None) -> None:
    """Print an error and its hint on stderr, in the one style of all verbs."""
    for label, style, text in (("error", "bold red", message), ("hint", "bold cyan", hint)):
        if text is not None:
            err.print(Text(f"{label}: ", style=style).append(Text(text, style="default")), soft_wrap=True)


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table on stdout. In a pipe or a file nothing is cut or styled; in a narrow terminal, text wraps."""
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_footer=any(column.footer for column in columns),
    )
    for column in columns:
        table.add_column(
            column.name,
            footer=column.footer,
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if out.is_terminal:
        out.print(table, width=max(out.width, _NARROWEST_TABLE), crop=False)
        return
    plain = io.StringIO()
    Console(file=plain, width=_UNLIMITED_WIDTH, color_system=None, highlight=False).print(table)
    lines = [line.rstrip() for line in plain.getvalue().splitlines()]
    sys.stdout.write("\n".join(lines).strip("\n") + "\n")


def printable(text: str) -> str:
    """Text from a bucket or an archive, with control characters escaped so that it cannot steer the terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


@contextmanager
def transfer_bar(label: str) -> Iterator[Any]:
    """A progress bar; yields a function that takes rclone's statistics."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(label, total=None)

        def update(stats: dict[str, Any]) -> None:
            progress.update(task, completed=stats.get("bytes", 0), total=stats.get("totalBytes") or None)

        yield update
