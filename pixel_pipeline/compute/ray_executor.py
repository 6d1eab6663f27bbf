"""Tasks on Ray: on this machine or on a cluster."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
import traceback
from typing import Any, Generic, Self, TypeVar

from pixel_pipeline.compute.local import WorkerDiedError
from pixel_pipeline.compute.ray_session import RETRIES, ClusterError, ray_session

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Done(Generic[Result]):
    value: Result


@dataclass(frozen=True)
class _Failed:
    error: Exception


class RayExecutor:
    """Ray's worker processes, reached at the first need and left on leaving the context.

    One task alone runs in this process. Each task takes one CPU; Ray runs it again, twice at most, when its worker or
    node is lost. Tasks under way when a consumer stops run to their end, or to that of the context.

    Args:
        workers: CPUs of a Ray that is started here; a cluster has its own number.
        address: See `ray_session`.
        environment: Variables of the workers. Ray shows and stores them: nothing secret.
    """

    def __init__(
        self, *, workers: int, address: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._cpus = workers
        self._address = address
        self._environment = dict(environment or {})
        self._session = ExitStack()
        self._run: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._run = None
        self._session.close()

    @property
    def workers(self) -> int:
        """CPUs that Ray has now; a cluster may grow and shrink."""
        self._connect()
        import ray

        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return max(1, int(resources.get("CPU", 0)))

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, at most twice as many ahead of the consumer as there are CPUs.

        Args:
            function: A module-level function that may run again for the same task.
            tasks: Picklable values.

        Raises:
            WorkerDiedError: a task's worker was killed, at each of its tries.
            ClusterError: Ray could not run a task.
            Exception: what the function raised, as it was, with a note of where.
        """
        if len(tasks) <= 1:
            yield from map(function, tasks)
            return
        self._connect()
        waiting = iter(tasks)
        ahead: deque[Any] = deque()
        while True:
            room = max(0, 2 * self.workers - len(ahead))
            ahead.extend(self._run.remote(function, task) for task in islice(waiting, room))
            if not ahead:
                return
            outcome = _outcome(ahead.popleft())
            if isinstance(outcome, _Failed):
                raise outcome.error
            yield outcome.value

    def _connect(self) -> None:
        if self._run is not None:
            return
        self._session.enter_context(ray_session(cpus=self._cpus, address=self._address))
        import ray

        self._run = ray.remote(_run).options(
            max_retries=RETRIES, runtime_env={"env_vars": self._environment} if self._environment else None
        )


def _run(function: Callable[[Task], Result], task: Task) -> _Done[Result] | _Failed:
    # Errors travel as values. One that is raised here ends in Ray's logs and its list of tasks with its text, which may
    # be that of a conversation where it is not one of ours.
    try:
        return _Done(function(task))
    except Exception as error:  # noqa: BLE001  raised again where the result is awaited
        error.add_note("Raised by a worker of Ray:\n" + "".join(traceback.format_tb(error.__traceback__)))
        return _Failed(error)


def _outcome(reference: Any) -> Any:
    """What `_run` returned, as soon as it has."""
    import ray
    from ray import exceptions

    try:
        return ray.get(reference)
    except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.NodeDiedError):
        raise WorkerDiedError(
            f"A worker of Ray was killed at each of {RETRIES + 1} tries of one task, probably for want of memory.",
            hint="Run again, with fewer CPUs to a node (PIXEL_WORKERS, or `ray start --num-cpus`) if it happens again.",
        ) from None
    except exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise ClusterError(
            f"Ray could not run a task: {type(cause).__name__}.",
            hint="Look at the cluster (`ray status`), and whether its nodes have what docs/scaling.md asks for.",
        ) from None
