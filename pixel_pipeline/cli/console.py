"""Terminal output: results on stdout; progress, notes and errors on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
import sys
from typing import Annotated, Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text
import typer

err = Console(stderr=True, highlight=False)
out = Console(highlight=False)

# An option without a value; Typer would show the type <bool>.
Flag = partial(typer.Option, metavar="")
Json = Annotated[bool, Flag("--json", help="Print one JSON document on stdout.")]


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


def printable(text: str) -> str:
    """Text from a bucket or an archive, with control characters escaped so that it cannot steer the terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


@contextmanager
def transfer_bar(label: str) -> Iterator[Any]:
    """A progress bar; yields a function that takes rclone's statistics."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(label, total=None)

        def update(stats: dict[str, Any]) -> None:
            progress.update(task, completed=stats.get("bytes", 0), total=stats.get("totalBytes") or None)

        yield update
