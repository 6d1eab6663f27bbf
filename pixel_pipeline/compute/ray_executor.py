"""Run tasks on Ray, on this machine or on a cluster."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
import traceback
from typing import Any, Self

from pixel_pipeline.compute.executor import Result, Task, WorkerDiedError
from pixel_pipeline.compute.ray_session import RETRIES, ClusterError, ray_session


class RayExecutor:
    """Ray's worker processes; connects on first use and disconnects on leaving the context.

    A single task runs in this process. Each task uses one CPU; Ray runs it again, at most twice, if its worker or node dies.
    When a consumer stops early, running tasks finish unless the context ends first.

    Args:
        workers: CPUs of a Ray started here; ignored for a running cluster.
        address: See `ray_session`.
        environment: Environment variables of the workers, none of them secret: Ray displays and stores them.
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
        """Current number of CPUs; a cluster may grow and shrink."""
        self._connect()
        import ray

        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return max(1, int(resources.get("CPU", 0)))

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """See `Executor.map`. The function's own exceptions carry a note with the worker's traceback.

        Raises:
            WorkerDiedError: a task's worker was killed at every attempt.
            ClusterError: Ray could not run a task.
        """
        if len(tasks) <= 1:
            yield from map(function, tasks)
            return
        self._connect()
        waiting = iter(tasks)
        running: deque[Any] = deque()
        while True:
            room = max(0, 2 * self.workers - len(running))
            running.extend(self._run.remote(function, task) for task in islice(waiting, room))
            if not running:
                return
            result, error = _get(running.popleft())
            if error is not None:
                raise error
            yield result

    def _connect(self) -> None:
        if self._run is not None:
            return
        self._session.enter_context(ray_session(cpus=self._cpus, address=self._address))
        import ray

        self._run = ray.remote(_run).options(
            max_retries=RETRIES, runtime_env={"env_vars": self._environment} if self._environment else None
        )


def _run(function: Callable[[Task], Result], task: Task) -> tuple[Result | None, Exception | None]:
    # Errors travel as values: Ray writes the text of a raised error to its logs and its list of tasks, and a foreign
    # error may quote a conversation.
    try:
        return function(task), None
    except Exception as error:  # noqa: BLE001  `map` raises it
        error.add_note("Raised in a Ray worker:\n" + "".join(traceback.format_tb(error.__traceback__)))
        return None, error


def _get(reference: Any) -> Any:
    """Wait for a task and return its result and error."""
    import ray
    from ray import exceptions

    try:
        return ray.get(reference)
    except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.NodeDiedError):
        raise WorkerDiedError(
            f"A Ray worker was killed at each of {RETRIES + 1} attempts of a task, probably because memory ran out.",
            hint="Run again, with fewer CPUs per node (PIXEL_WORKERS, or `ray start --num-cpus`) if it happens again.",
        ) from None
    except exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise ClusterError(
            f"Ray could not run a task: {type(cause).__name__}.",
            hint="Check the cluster (`ray status`) and that its nodes meet the requirements in docs/scaling.md.",
        ) from None
