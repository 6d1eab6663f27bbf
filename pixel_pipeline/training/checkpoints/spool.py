"""Checkpoints on the local disk, from the moment they are whole until the lake has them. Torch-free.

    <spool>/lock                    held by the process that works on the run
    <spool>/step-000200.writing/    being written
    <spool>/step-000200/            whole: the rename that makes it so comes after all of it is on the disk
    <spool>/step-000200.….dropping/ being deleted

Hidden files of a folder are ours: `.files.json` has the size of each file and, once they were read, their SHA-256; `.marks.json`
tells whether it is final or best.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import errno
import fcntl
import os
from pathlib import Path
import re
import shutil
from typing import Any
import uuid

import orjson

from pixel_pipeline.training.checkpoints.files import LocalFiles
from pixel_pipeline.training.errors import CheckpointCorruptError, CheckpointSpaceError, RunBusyError

_FILES = ".files.json"
_MARKS = ".marks.json"
_WHOLE = re.compile(r"step-(\d+)")
# A full disk, a quota, a limit of the process.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Marks:
    """What a checkpoint is beside its step.

    Attributes:
        final: The run's last.
        best: Metric of the best so far; None where it is not.
    """

    final: bool = False
    best: float | None = None

    @property
    def ordinary(self) -> bool:
        """Neither final nor best: a newer one replaces it."""
        return not self.final and self.best is None

    def merged(self, other: "Marks") -> "Marks":
        """Both together; `other` is the later."""
        return Marks(final=self.final or other.final, best=self.best if other.best is None else other.best)


class Spool:
    """The folder of one run. Held by one process at a time, until `release`.

    Raises:
        RunBusyError: another live process holds it.
    """

    def __init__(self, folder: Path, *, run: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # The lock goes with its holder, however that dies. A process that has it open through a fork would keep it.
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise RunBusyError(
                f"Run {run} is being trained by another process of this machine ({holder or 'unknown'}), which holds {folder}.",
                hint="Wait until it ends, or end it; training goes on from its last checkpoint.",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"pid {os.getpid()}\n".encode(), 0)
        for left in folder.glob("*.writing"):
            shutil.rmtree(left)
        self.sweep()

    def release(self) -> None:
        """Let others have it."""
        self.sweep()
        os.close(self._lock)

    def path(self, step: int) -> Path:
        """Folder of a whole checkpoint."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Steps whose checkpoints are here, in order."""
        matches = [_WHOLE.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in matches if match)

    @contextmanager
    def writing(self, step: int, *, bytes_needed: int) -> Iterator[Path]:
        """A folder to write files into, flat. It is whole when the block ends well, else gone.

        Of a step that is here already, the first stays.

        Raises:
            CheckpointSpaceError: the disk has too little space, at the beginning or while it is written.
        """
        free = shutil.disk_usage(self.folder).free
        if free < bytes_needed:
            raise self._full(f"needs {_megabytes(bytes_needed)}, {_megabytes(free)} are free")
        folder = self.folder / f"{self.path(step).name}.writing"
        try:
            folder.mkdir()
            yield folder
            names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
            sizes = {name: {"bytes": (folder / name).stat().st_size} for name in names}
            (folder / _FILES).write_bytes(orjson.dumps(sizes))
            for path in (*folder.iterdir(), folder):
                _sync(path)
            if not self.path(step).exists():
                folder.rename(self.path(step))
                _sync(self.folder)
        except Exception as error:
            if not _is_full(error):
                raise
            free = shutil.disk_usage(self.folder).free
            raise self._full(
                f"was to take {_megabytes(bytes_needed)} and filled the disk or a quota while it was written; "
                f"{_megabytes(free)} are free"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def mark(self, step: int, marks: Marks) -> None:
        """Note what a checkpoint is, for whoever finds it."""
        self._note(step, _MARKS, {"final": marks.final, "best": marks.best})

    def marks(self, step: int) -> Marks:
        """As noted last; nothing in particular where none is, or the note was cut off."""
        try:
            content = orjson.loads((self.path(step) / _MARKS).read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return Marks()
        return Marks(final=content["final"], best=content["best"])

    def scan(self, step: int) -> LocalFiles:
        """Read the files of a checkpoint and note their SHA-256, or compare it where it was noted.

        Raises:
            CheckpointCorruptError: they are not what was written.
        """
        folder = self.path(step)
        try:
            noted: dict[str, dict[str, Any]] = orjson.loads((folder / _FILES).read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            raise self._damaged(step, f"it has no {_FILES}") from None
        files = LocalFiles.scan(folder)
        found = {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in files.digests.items()}
        for name in sorted({*noted, *found}):
            if name not in noted or noted[name].items() - found.get(name, {}).items():
                raise self._damaged(step, f"{name} is not as it was written")
        if noted != found:
            self._note(step, _FILES, found)
        return files

    def drop(self, step: int) -> None:
        """Take a checkpoint out; `sweep` deletes it. One that is not here is no error."""
        # Deleting takes 0.3 s a GB, and a half deleted folder must not look whole.
        with suppress(FileNotFoundError):
            self.path(step).rename(self.folder / f"{self.path(step).name}.{uuid.uuid4().hex}.dropping")

    def sweep(self) -> None:
        """Delete what was dropped. Any number of threads may do so."""
        for path in self.folder.glob("*.dropping"):
            shutil.rmtree(path, ignore_errors=True)

    def _note(self, step: int, name: str, content: Any) -> None:
        # A full disk must not hold up the upload, which frees it. The note counts only where this process is killed.
        with suppress(OSError):
            partial = self.path(step) / f"{name}.partial"
            partial.write_bytes(orjson.dumps(content))
            _sync(partial)
            partial.replace(self.path(step) / name)

    def _full(self, what: str) -> CheckpointSpaceError:
        return CheckpointSpaceError(
            f"A checkpoint in {self.folder} {what}.",
            hint="Free some space there or set PIXEL_HOME to a larger disk, then run again; training goes on from the last checkpoint.",
        )

    def _damaged(self, step: int, what: str) -> CheckpointCorruptError:
        return CheckpointCorruptError(
            f"The local checkpoint {self.path(step)} is damaged: {what}.",
            hint="Check the disk; training goes on from the checkpoint before.",
        )


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    # The library of safetensors tells the system's errors in words.
    return any(f"(os error {number})" in str(error) for number in _FULL)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
