"""Run tasks on worker processes of this machine."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
import multiprocessing
import signal
from typing import Self

from pixel_pipeline.compute.executor import Result, Task, WorkerDiedError


class LocalExecutor:
    """A pool of worker processes, started on first use.

    A single task runs in this process, because starting a worker costs more than most tasks.
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
        """See `Executor.map`."""
        if self.workers == 1 or len(tasks) <= 1:
            yield from map(function, tasks)
            return
        if self._pool is None:
            # Spawned, not forked: the S3 client's threads do not survive a fork.
            self._pool = ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))
        waiting = iter(tasks)
        running: deque[Future[Result]] = deque()
        try:
            while True:
                room = 2 * self.workers - len(running)
                running.extend(_submit(self._pool, function, task) for task in islice(waiting, room))
                if not running:
                    return
                yield running.popleft().result()
        except BrokenProcessPool:
            raise WorkerDiedError(
                "A worker process was killed, probably because memory ran out.",
                hint="Run again, with fewer workers (PIXEL_WORKERS) if it happens again.",
            ) from None


def _submit(pool: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task) -> Future[Result]:
    # Any submission may start a worker, which inherits the mask: only this process receives Ctrl-C, and shuts the
    # workers down.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
