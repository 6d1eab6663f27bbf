"""The interface of every executor."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self, TypeVar

from pixel_pipeline.errors import PixelError

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerDiedError(PixelError):
    """A worker process was killed or ran out of memory."""


class Executor(Protocol):
    """Runs tasks; leaving its context stops everything it started."""

    @property
    def workers(self) -> int:
        """Number of tasks that run in parallel."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield results in the order of the tasks, running at most twice as many ahead as there are workers.

        A single task runs in this process.

        Args:
            function: An idempotent module-level function: Ray runs a task again if its worker was killed.
            tasks: Picklable values.

        Raises:
            WorkerDiedError: a worker process was killed.
            Exception: the function's own exception.
        """
        ...
