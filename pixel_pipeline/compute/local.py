"""Tasks on the processes of this machine."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import multiprocessing
import signal
from typing import Self, TypeVar

from pixel_pipeline.errors import PixelError

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerDiedError(PixelError):
    """A worker process ended without a word: killed, or out of memory."""


class LocalExecutor:
    """A pool of worker processes, started at the first need and shut down on leaving the context.

    One task alone runs in this process: starting a worker costs more than most single tasks.
    """

    def __init__(self, *, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, at most twice as many ahead of the consumer as there are workers.

        Args:
            function: A module-level function.
            tasks: Picklable values.

        Raises:
            WorkerDiedError: a worker process was killed.
        """
        if self.workers == 1 or len(tasks) <= 1:
            yield from map(function, tasks)
            return
        if self._pool is None:
            # Spawned, not forked: the S3 client's threads do not survive a fork.
            self._pool = ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))
        ahead = 2 * self.workers
        futures = [_submit(self._pool, function, task) for task in tasks[:ahead]]
        for number in range(len(tasks)):
            try:
                result = futures.pop(0).result()
                if number + ahead < len(tasks):
                    futures.append(_submit(self._pool, function, tasks[number + ahead]))
            except BrokenProcessPool:
                raise WorkerDiedError(
                    "A worker process was killed, probably for want of memory.",
                    hint="Run again, with fewer workers (PIXEL_WORKERS) if it happens again.",
                ) from None
            yield result


def _submit(pool: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task) -> Future[Result]:
    # Any submission may start a worker, which inherits the mask: Ctrl-C reaches this process alone, which ends them in
    # order.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
