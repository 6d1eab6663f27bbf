"""What a terminal is shown: results on stdout, everything that is said on the way on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
import sys
from typing import Annotated, Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
import typer

err = Console(stderr=True, highlight=False)
out = Console(highlight=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def print_json(value: Any) -> None:
    """One indented JSON document on stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


def printable(text: str) -> str:
    """Names from a bucket or an archive, with what would steer a terminal made visible."""
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
