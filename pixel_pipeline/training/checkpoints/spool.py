"""Checkpoints on the local disk, from the moment they are complete until they are uploaded. Torch-free.

    <spool>/lock                    held by the process that trains the run
    <spool>/step-000200.writing/    being written
    <spool>/step-000200/            complete: renamed once every file is flushed to the disk
    <spool>/step-000200.dropping/   being deleted

`.marks.json` in a checkpoint's folder records whether it is final or the best.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
import errno
import fcntl
import os
from pathlib import Path
import re
import shutil

import orjson

from pixel_pipeline.training.errors import CheckpointSpaceError, RunBusyError

_MARKS = ".marks.json"
_COMPLETE = re.compile(r"step-(\d+)")
# A full disk, a quota, a limit of the process.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Marks:
    """Why a newer checkpoint does not replace this one.

    Attributes:
        final: It is the run's last.
        best: Metric of the best checkpoint so far; None if this is not it.
    """

    final: bool = False
    best: float | None = None


class Spool:
    """The folder of one run, locked by this process until `release`.

    Raises:
        RunBusyError: another live process holds the lock.
    """

    def __init__(self, folder: Path, *, run: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # The kernel releases the lock however its holder dies. O_CLOEXEC: child processes must not inherit it.
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise RunBusyError(
                f"Run {run} is being trained by another process of this machine ({holder or 'unknown'}), which holds {folder}.",
                hint="Wait until it ends, or end it; training continues from its last checkpoint.",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"pid {os.getpid()}\n".encode(), 0)
        for pattern in ("*.writing", "*.dropping"):
            for remains in folder.glob(pattern):
                shutil.rmtree(remains)

    def release(self) -> None:
        """Unlock the folder for other processes."""
        os.close(self._lock)

    def path(self, step: int) -> Path:
        """Folder of a complete checkpoint."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        matches = [_COMPLETE.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in matches if match)

    @contextmanager
    def writing(self, step: int, marks: Marks, *, bytes_needed: int) -> Iterator[Path]:
        """A flat folder to write files into. It is complete if the block succeeds, and removed if it fails.

        An existing checkpoint of the same step is kept.

        Raises:
            CheckpointSpaceError: the disk has too little space, before or during the write.
        """
        free = shutil.disk_usage(self.folder).free
        if free < bytes_needed:
            raise self._full(f"needs {_megabytes(bytes_needed)}, but only {_megabytes(free)} are free")
        folder = self.folder / f"{self.path(step).name}.writing"
        try:
            folder.mkdir()
            yield folder
            (folder / _MARKS).write_bytes(orjson.dumps(asdict(marks)))
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
                f"needs {_megabytes(bytes_needed)}; the disk or a quota filled up during the write, {_megabytes(free)} are free"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def marks(self, step: int) -> Marks:
        """The marks of a complete checkpoint."""
        return Marks(**orjson.loads((self.path(step) / _MARKS).read_bytes()))

    def drop(self, step: int) -> None:
        """Delete a checkpoint."""
        # A half-deleted folder must not look complete.
        dropping = self.folder / f"{self.path(step).name}.dropping"
        self.path(step).rename(dropping)
        shutil.rmtree(dropping)

    def _full(self, problem: str) -> CheckpointSpaceError:
        return CheckpointSpaceError(
            f"A checkpoint in {self.folder} {problem}.",
            hint="Free space there or set PIXEL_HOME to a larger disk, then run again; training continues from the last checkpoint.",
        )


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    # safetensors reports system errors only in its message.
    return any(f"(os error {number})" in str(error) for number in _FULL)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
