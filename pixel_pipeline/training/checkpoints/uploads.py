"""Uploads checkpoints while training goes on. Torch-free.

The trainer writes to the local disk and goes on; one thread brings what is whole into the lake. An outage of the lake costs the
disk space of at most three checkpoints and no time. See docs/checkpoints.md.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
import random
import threading
from time import monotonic
from typing import Self

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.training.checkpoints.claim import RunClaim
from pixel_pipeline.training.checkpoints.files import LocalFiles
from pixel_pipeline.training.checkpoints.spool import Marks, Spool
from pixel_pipeline.training.checkpoints.store import (
    CheckpointRef,
    best_step,
    list_checkpoints,
    mark,
    prune,
    publish,
)
from pixel_pipeline.training.errors import CheckpointCorruptError, CheckpointUploadError, RunBusyError

MAX_PAUSE_SECONDS = 60.0
REPORT_SECONDS = 60.0
# How often the thread looks whether the interpreter wants to end.
_LOOK_SECONDS = 1.0
_ENDING_SECONDS = 5.0
# For what is pending when training ends by an error.
_LEAVING_SECONDS = 30.0


class CheckpointUploads:
    """The checkpoints of one run on their way into the lake. Used by one thread, the trainer's.

    Args:
        spool: Local folder of this run; the checkpoints wait there.
        keep: So many of the newest stay in the lake, beside the best.
        report: Receives readable lines, from another thread.
        keep_steps: Steps that stay too, e.g. of a promoted checkpoint.
        first_pause: Seconds; the longest wait after a first failure. It doubles with each further one, up to a minute.

    Attributes:
        durable: Step of the newest checkpoint that is known to be whole in the lake.
        problem: The last failure in words; None once an upload has succeeded after it.

    Raises:
        RunBusyError: another live process of this machine works on the run.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        run: str,
        spool: Path,
        keep: int,
        report: Callable[[str], None],
        keep_steps: Collection[int] = (),
        first_pause: float = 1.0,
    ) -> None:
        self.durable: int | None = None
        self.problem: str | None = None
        self._lake = lake
        self._run = run
        self._keep = keep
        self._keep_steps = keep_steps
        self._report = report
        self._first_pause = first_pause
        self._claim = RunClaim(lake, run=run)
        self._spool = Spool(spool, run=run)
        # Guards all that follows.
        self._changed = threading.Condition()
        self._jobs: dict[int, Marks] = {}
        self._current: int | None = None
        self._failed: dict[int, str] = {}
        self._refused: PixelError | None = None
        self._closing = self._stopping = self._ended = False
        self._files: dict[int, LocalFiles] = {}
        self._reported: float | None = None
        # Not a daemon: the interpreter must not end inside of a request. It sees when the main thread does, and ends.
        self._thread = threading.Thread(target=self._work, name="checkpoint-uploads")
        self._thread.start()

    def recover(self, *, timeout: float = 600.0) -> int | None:
        """Take the run over: bring what a process that died has left in the spool into the lake. To be called once, at first.

        Dropped are damaged checkpoints, and ordinary ones of which a newer one is there.

        Returns:
            Step of the newest checkpoint in the lake.

        Raises:
            CheckpointUploadError: it is not uploaded after so many seconds. It stays in the spool.
            LakeUnreachableError, LakeAccessError: as the lake answers.
        """
        self._claim.make()
        listed = list_checkpoints(self._lake.checkpoints, self._run)
        with self._changed:
            self.durable = listed[-1].step if listed else None
            best = best_step(self._lake.checkpoints, self._run) or 0
            for step in self._spool.steps():
                try:
                    self._files[step] = self._spool.scan(step)
                except CheckpointCorruptError as error:
                    self._report(f"{error.message} It is dropped.")
                    self._spool.drop(step)
                    continue
                marks = self._spool.marks(step)
                if marks.best is not None and step < best:
                    marks = Marks(final=marks.final)
                if marks.ordinary and step < (self.durable or 0):
                    self._forget(step)
                else:
                    self._jobs[step] = marks
            self._supersede()
            if self._jobs:
                self._report(f"uploading the local checkpoints of steps {[*self._jobs]} of a former process")
            self._changed.notify_all()
            self._wait(timeout)
        return self.durable

    def writing(self, step: int, *, bytes_needed: int) -> AbstractContextManager[Path]:
        """A local folder to write the files of a checkpoint into. It is whole when the block ends well, else gone.

        Raises:
            CheckpointSpaceError: the disk has too little space, at the beginning or while it is written.
        """
        return self._spool.writing(step, bytes_needed=bytes_needed)

    def submit(
        self, step: int, *, final: bool = False, best: bool = False, metric: float | None = None
    ) -> None:
        """Upload a checkpoint that was written; returns at once. Said again of the same step, it adds final or best to it.

        Args:
            metric: What makes it the best; wanted with `best`.

        Raises:
            RunBusyError: another process has taken the run over; nothing is uploaded any more.
        """
        if best and metric is None:
            raise ValueError("the best checkpoint needs its metric")
        with self._changed:
            if self._refused is not None:
                raise self._refused
            marks = self._jobs.get(step, Marks()).merged(Marks(final=final, best=metric if best else None))
            self._spool.mark(step, marks)
            self._jobs[step] = marks
            if best:
                # The best before it no longer is.
                for older, its in self._jobs.items():
                    if older < step:
                        self._jobs[older] = Marks(final=its.final)
            dropped = self._supersede()
            self._changed.notify_all()
        if dropped:
            threading.Thread(target=self._spool.sweep, name="checkpoint-spool").start()

    def close(self, *, timeout: float) -> int | None:
        """Upload what is pending, for so many seconds at most, and end.

        Returns:
            Step of the newest durable checkpoint.

        Raises:
            CheckpointUploadError: something newer than that is not in the lake. What is whole stays in the spool.
            RunBusyError: another process has taken the run over.
        """
        try:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
                self._wait(timeout)
                if self._failed and max(self._failed) > (self.durable or 0):
                    raise self._missing([*self._failed], next(reversed(self._failed.values())))
        finally:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            # One that is in the middle of a file ends after it.
            self._thread.join(_ENDING_SECONDS)
        return self.durable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close, if nobody has. An error on its way out is not replaced by that of an upload; the spool keeps what is whole."""
        if self._ended:
            return
        try:
            self.close(timeout=_LEAVING_SECONDS)
        except PixelError as error:
            if kind is None:
                raise
            self._report(error.message)

    def _wait(self, timeout: float) -> None:
        """Until nothing is pending."""
        self._changed.wait_for(lambda: not self._jobs or self._ended, timeout)
        if self._refused is not None:
            raise self._refused
        if self._jobs:
            raise self._missing([*self._jobs], self.problem or f"it took longer than {timeout:.0f} s")

    def _missing(self, steps: list[int], why: str) -> CheckpointUploadError:
        durable = "none" if self.durable is None else f"step {self.durable}"
        return CheckpointUploadError(
            f"Checkpoints of run {self._run} that are not in the lake: steps {', '.join(map(str, sorted(steps)))}. "
            f"The newest there: {durable}. {why}",
            hint=f"Those that are whole wait in {self._spool.folder}: run the same command again, and they are uploaded first.",
        )

    def _supersede(self) -> bool:
        """Drop pending checkpoints that a newer one replaces; whether there were any."""
        newest = max(self._jobs, default=0)
        superseded = [
            step
            for step, marks in self._jobs.items()
            if marks.ordinary and step < newest and step != self._current
        ]
        for step in superseded:
            self._forget(step)
        return bool(superseded)

    def _forget(self, step: int) -> None:
        self._changed.notify_all()
        self._jobs.pop(step, None)
        self._files.pop(step, None)
        self._spool.drop(step)

    def _permit(self) -> None:
        """Before every write to the lake.

        Raises:
            RunBusyError: another process has taken the run over.
            _StoppedError: it is time to end.
        """
        if self._must_end():
            raise _StoppedError
        self._claim.check()

    def _must_end(self) -> bool:
        return self._stopping or not threading.main_thread().is_alive()

    def _work(self) -> None:
        """The thread: oldest first, one at a time; after a failure it chooses again."""
        failures = 0
        try:
            while (step := self._next()) is not None:
                try:
                    self._bring(step)
                    self._spool.sweep()
                    failures = 0
                except (PixelError, OSError) as error:
                    failures += 1
                    if not self._goes_on_after(error, step=step):
                        return
                    # Full jitter. The exponent ends where a float would.
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
            self._supersede()
            while not self._must_end():
                if self._jobs:
                    self._current = min(self._jobs)
                    return self._current
                if self._closing:
                    return None
                self._changed.wait(_LOOK_SECONDS)
            return None

    def _bring(self, step: int) -> None:
        ref = CheckpointRef(run=self._run, step=step)
        marks = self._jobs[step]
        if self._spool.path(step).exists():
            try:
                files = self._files.get(step) or self._spool.scan(step)
            except CheckpointCorruptError as error:
                self._give_up(step, error.message)
                return
            self._files[step] = files
            folder = self._spool.path(step)
            publish(
                self._lake,
                ref,
                folder=folder,
                final=marks.final,
                best=marks.best,
                files=files,
                permit=self._permit,
            )
        else:
            self._permit()
            try:
                mark(self._lake, ref, final=marks.final, best=marks.best)
            except ObjectNotFoundError:
                self._give_up(
                    step, f"The checkpoint of step {step} is neither on the local disk nor in the lake."
                )
                return
        with self._changed:
            self.durable = max(self.durable or 0, step)
            self.problem = None
            if self._jobs[step] != marks:
                return
        self._report(f"checkpoint {ref.uri(self._lake)}")
        self._prune()
        with self._changed:
            if self._jobs[step] == marks:
                self._forget(step)

    def _prune(self) -> None:
        """What is not deleted now is deleted after the next upload: the checkpoint is durable, and its folder can go."""
        try:
            self._permit()
            prune(self._lake, self._run, keep=self._keep, also={*self._keep_steps, *self._spool.steps()})
        except RunBusyError:
            raise
        except PixelError as error:
            self._tell(f"Old checkpoints of run {self._run} are not deleted: {error.message}")

    def _give_up(self, step: int, why: str) -> None:
        with self._changed:
            self._failed[step] = why
            self._forget(step)
        self._tell(f"{why} It is dropped.")

    def _goes_on_after(self, error: PixelError | OSError, *, step: int) -> bool:
        if isinstance(error, RunBusyError):
            self._refused = error
            self._tell(error.message)
            return False
        told = error.message if isinstance(error, PixelError) else f"The local disk fails: {error.strerror}."
        self._tell(f"The checkpoint of step {step} is not in the lake yet and is tried again. {told}")
        return True

    def _tell(self, problem: str) -> None:
        self.problem = problem
        if self._reported is None or monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = monotonic()
            self._report(problem)

    def _pause(self, seconds: float) -> None:
        """Wait; not on when `close` is called meanwhile."""
        end = monotonic() + seconds
        with self._changed:
            closing = self._closing
            while closing == self._closing and not self._must_end() and (left := end - monotonic()) > 0:
                self._changed.wait(min(left, _LOOK_SECONDS))


class _StoppedError(Exception):
    """The thread is to end."""
