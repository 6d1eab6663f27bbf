"""Local files that readers see whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
from pathlib import Path
from typing import BinaryIO, cast
import uuid


@contextmanager
def atomic_file(
    path: Path, *, final: Callable[[], Path] | None = None, mode: int = 0o666, durable: bool = False
) -> Iterator[BinaryIO]:
    """Open a new file for writing and reading. It replaces `path` when the block ends; an error leaves nothing.

    Until then its name ends in `.partial`. A killed process leaves no more than that.

    Args:
        final: Returns the path in the same folder to use instead, for a name that depends on the content.
        mode: Permissions, reduced by the umask.
        durable: Wait until the content and the name are on disk.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "x+b", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield cast(BinaryIO, file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path if final is None else final())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
