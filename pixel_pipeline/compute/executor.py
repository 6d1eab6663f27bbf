"""What every executor can do."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs tasks somewhere; leaving its context ends what it started."""

    @property
    def workers(self) -> int:
        """How many tasks run at a time."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, a bounded number of them ahead of the consumer.

        Args:
            function: A module-level function without side effects that a second run would add to: Ray runs a task again
                when its worker was killed.
            tasks: Picklable values.

        Raises:
            WorkerDiedError: a worker process was killed.
            Exception: what the function raised, as it was.
        """
        ...
