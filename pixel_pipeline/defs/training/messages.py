"""Receives the messages of a Pipes process through a temporary file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import sleep
from typing import Any

import dagster as dg
from dagster_pipes import PipesDefaultMessageWriter
import orjson

POLL_SECONDS = 0.02


class LineMessageReader(dg.PipesMessageReader):
    """Reads complete lines only.

    Dagster's `PipesTempFileMessageReader` also takes the written part of a line for a message, and fails on long ones, such as those
    with plots, if it reads while they are written.
    """

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Yield the parameters of the writer; pass its messages to the handler until the block ends."""
        ended = Event()
        with TemporaryDirectory(prefix="pixel-pipes-") as folder:
            path = Path(folder) / "messages"
            path.touch()
            thread = Thread(target=_read, args=(path, handler, ended), daemon=True)
            thread.start()
            try:
                yield {
                    PipesDefaultMessageWriter.FILE_PATH_KEY: str(path),
                    PipesDefaultMessageWriter.INCLUDE_STDIO_IN_MESSAGES_KEY: False,
                }
            finally:
                ended.set()
                thread.join()

    def no_messages_debug_text(self) -> str:
        return "Attempted to read messages from a temporary file."


def _read(path: Path, handler: Any, ended: Event) -> None:
    rest = b""
    with path.open("rb") as file:
        while True:
            # Before the last read: everything written until then is read.
            last = ended.is_set()
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in lines:
                handler.handle_message(orjson.loads(line))
            if last:
                return
            if not lines:
                sleep(POLL_SECONDS)
