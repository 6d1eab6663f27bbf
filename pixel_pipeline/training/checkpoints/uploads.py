"""Uploads checkpoints in the background while training continues. Torch-free.

The trainer writes to the local disk; one thread uploads. An outage of the lake costs the disk space of at most three
checkpoints and no training time. See docs/checkpoints.md.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import random
import threading
from time import monotonic
from typing import Self

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.claim import RunClaim
from pixel_pipeline.training.checkpoints.spool import Marks, Spool
from pixel_pipeline.training.checkpoints.store import (
    CheckpointRef,
    best_step,
    list_checkpoints,
    prune,
    publish,
)
from pixel_pipeline.training.errors import CheckpointUploadError, RunBusyError

MAX_PAUSE_SECONDS = 60.0
REPORT_SECONDS = 60.0
# How often the thread checks whether the interpreter is exiting.
_POLL_SECONDS = 1.0
_JOIN_SECONDS = 5.0
# Time for pending uploads when an error ends training.
_EXIT_SECONDS = 30.0


class CheckpointUploads:
    """Writes the checkpoints of one run and uploads them. Used by one thread, the trainer's.

    The checkpoints in the local folder are the queue.

    Args:
        spool: Local folder of this run; checkpoints wait there until they are uploaded.
        keep: Number of the newest checkpoints to keep in the lake, in addition to the best.
        report: Receives readable lines, from another thread.
        first_pause: Longest wait in seconds after a first failure. It doubles with each further failure, up to a minute.

    Attributes:
        durable: Step of the newest checkpoint known to be complete in the lake.
        problem: The last failure as text; None once an upload has succeeded since.

    Raises:
        RunBusyError: another live process of this machine trains the run.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        run: str,
        spool: Path,
        keep: int,
        report: Callable[[str], None],
        first_pause: float = 1.0,
    ) -> None:
        self.durable: int | None = None
        self.problem: str | None = None
        self._lake = lake
        self._run = run
        self._keep = keep
        self._report = report
        self._first_pause = first_pause
        self._claim = RunClaim(lake, run=run)
        self._spool = Spool(spool, run=run)
        # Guards everything below, and which checkpoints the spool has.
        self._changed = threading.Condition()
        self._best = 0
        self._current: int | None = None
        self._refusal: RunBusyError | None = None
        self._closing = self._stopping = self._ended = False
        self._reported: float | None = None
        # Not a daemon: the interpreter must not exit during a request. The thread notices the exit and ends.
        self._thread = threading.Thread(target=self._work, name="checkpoint-uploads")

    def recover(self, *, timeout: float = 600.0) -> int | None:
        """Claim the run and upload the checkpoints that an earlier process left in the spool. Call it once, first.

        Returns:
            Step of the newest checkpoint in the lake.

        Raises:
            CheckpointUploadError: the upload takes longer than `timeout` seconds. The checkpoints stay in the spool.
        """
        self._claim.make()
        self.durable = max(
            (ref.step for ref in list_checkpoints(self._lake.checkpoints, self._run)), default=None
        )
        self._best = best_step(self._lake.checkpoints, self._run) or 0
        if waiting := self._waiting():
            self._report(
                f"uploading the checkpoints of steps {waiting} that an earlier process left on this disk"
            )
        self._thread.start()
        return self.flush(timeout=timeout)

    @contextmanager
    def writing(
        self, step: int, *, bytes_needed: int, final: bool = False, best: float | None = None
    ) -> Iterator[Path]:
        """A local folder to write a checkpoint's files into. If the block succeeds, the upload is queued.

        Args:
            final: Whether it is the run's last checkpoint.
            best: Metric of the run's best checkpoint so far; None if this is not it.

        Raises:
            CheckpointSpaceError: the disk has too little space, before or during the write.
            RunBusyError: another process has taken over the run; the checkpoint stays in the spool.
        """
        marks = Marks(final=final, best=best)
        with self._spool.writing(step, marks, bytes_needed=bytes_needed) as folder:
            yield folder
        with self._changed:
            if self._refusal is not None:
                raise self._refusal
            self._waiting()
            self._changed.notify_all()

    def flush(self, *, timeout: float) -> int | None:
        """Wait until every checkpoint is uploaded; returns the step of the newest in the lake.

        Raises:
            CheckpointUploadError: that takes longer than `timeout` seconds. The checkpoints stay in the spool.
            RunBusyError: another process has taken over the run.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not self._waiting(), timeout)
            if self._refusal is not None:
                raise self._refusal
            if waiting := self._waiting():
                durable = "none" if self.durable is None else f"step {self.durable}"
                raise CheckpointUploadError(
                    f"Checkpoints of run {self._run} that are not in the lake: steps {', '.join(map(str, waiting))}. "
                    f"The newest there: {durable}. {self.problem or f'The upload took longer than {timeout:.0f} s.'}",
                    hint=f"They wait in {self._spool.folder}: run the same command again to upload them first.",
                )
            return self.durable

    def close(self, *, timeout: float) -> int | None:
        """`flush`, then end the thread. Raises as `flush` does."""
        try:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            return self.flush(timeout=timeout)
        finally:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            # The thread first finishes the file that it is sending.
            self._thread.join(_JOIN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close if that was not done. A failed upload never hides the error that ends the block."""
        if self._thread.ident is None:
            self._spool.release()
        if self._thread.ident is None or self._ended:
            return
        try:
            self.close(timeout=_EXIT_SECONDS)
        except PixelError as error:
            if kind is None:
                raise
            self._report(error.message)

    def _waiting(self) -> list[int]:
        """Steps to upload, the oldest first. Drops checkpoints that a newer one replaces."""
        marks = {step: self._spool.marks(step) for step in self._spool.steps()}
        newest = max([*marks, self.durable or 0])
        best = max([self._best, *(step for step, its in marks.items() if its.best is not None)])
        needed = {newest, best, self._current, *(step for step, its in marks.items() if its.final)}
        for step in marks.keys() - needed:
            self._spool.drop(step)
        return sorted(marks.keys() & needed)

    def _permit(self) -> None:
        """Called before every write to the lake; raises RunBusyError or _StoppedError to prevent it."""
        if self._must_end():
            raise _StoppedError
        self._claim.check()

    def _must_end(self) -> bool:
        return self._stopping or not threading.main_thread().is_alive()

    def _work(self) -> None:
        """Upload one checkpoint at a time, the oldest first; after a failure, choose again."""
        failures, sent = 0, dict[int, dict[str, str]]()
        try:
            while (step := self._next()) is not None:
                try:
                    self._upload(step, sent=sent.setdefault(step, {}))
                    failures = 0
                except RunBusyError as error:
                    self._refusal = error
                    self._report_problem(error.message)
                    return
                except (PixelError, OSError) as error:
                    failures += 1
                    cause = error.message if isinstance(error, PixelError) else f"{error.strerror}."
                    self._report_problem(
                        f"The checkpoint of step {step} is not in the lake yet and is tried again. {cause}"
                    )
                    # Full jitter. The exponent is capped because a float would overflow.
                    longest = min(MAX_PAUSE_SECONDS, self._first_pause * 2.0 ** min(failures - 1, 100))
                    self._pause(random.uniform(0, longest))
        except _StoppedError:
            pass
        finally:
            self._spool.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next(self) -> int | None:
        with self._changed:
            self._current = None
            while not self._must_end():
                if waiting := self._waiting():
                    self._current = waiting[0]
                    return self._current
                if self._closing:
                    return None
                self._changed.wait(_POLL_SECONDS)
            return None

    def _upload(self, step: int, *, sent: dict[str, str]) -> None:
        ref, marks = CheckpointRef(run=self._run, step=step), self._spool.marks(step)
        folder = self._spool.path(step)
        publish(
            self._lake,
            ref,
            folder=folder,
            final=marks.final,
            best=marks.best,
            sent=sent,
            permit=self._permit,
        )
        self.durable = max(self.durable or 0, step)
        self.problem = None
        self._report(f"checkpoint {ref.uri(self._lake)}")
        self._permit()
        try:
            prune(self._lake, self._run, keep=self._keep, also=self._spool.steps())
        except PixelError as error:
            # The next upload prunes again; this checkpoint is in the lake.
            self._report_problem(f"Old checkpoints of run {self._run} are not deleted: {error.message}")
        with self._changed:
            self._spool.drop(step)
            self._changed.notify_all()

    def _report_problem(self, problem: str) -> None:
        self.problem = problem
        if self._reported is None or monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = monotonic()
            self._report(problem)

    def _pause(self, seconds: float) -> None:
        """Wait, but retry at once when `close` is called."""
        end = monotonic() + seconds
        with self._changed:
            closing = self._closing
            while closing == self._closing and not self._must_end() and (left := end - monotonic()) > 0:
                self._changed.wait(min(left, _POLL_SECONDS))


class _StoppedError(Exception):
    """The thread must end."""
