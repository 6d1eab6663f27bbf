"""Tasks on worker processes: all of them, in order, with their own errors."""

import os
import signal
import time

import pytest

from pixel_pipeline.compute.executor import WorkerDiedError
from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.s3.errors import ObjectChangedError


def square_slowly(number: int) -> tuple[int, int]:
    """The first tasks take longest, so that later tasks finish before them."""
    time.sleep(0.1 if number < 2 else 0)
    return number * number, os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ObjectChangedError("s3://b/k changed.", hint="Run again.")
    return number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_of_worker_processes_keep_the_order() -> None:
    with LocalExecutor(workers=2) as executor:
        results = [*executor.map(square_slowly, range(12))]
        again = [*executor.map(square_slowly, range(3, 6))]
    assert [value for value, _ in results] == [number * number for number in range(12)]
    assert [value for value, _ in again] == [9, 16, 25]
    pids = {pid for _, pid in results}
    assert os.getpid() not in pids
    assert len(pids) <= 2


@pytest.mark.parametrize(("workers", "tasks"), [(1, 5), (4, 1), (4, 0)])
def test_a_single_worker_or_task_uses_this_process(workers: int, tasks: int) -> None:
    with LocalExecutor(workers=workers) as executor:
        results = [*executor.map(square_slowly, range(tasks))]
    assert {pid for _, pid in results} <= {os.getpid()}
    assert len(results) == tasks


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_unchanged_and_the_executor_stays_usable(workers: int) -> None:
    with LocalExecutor(workers=workers) as executor:
        results = executor.map(fail_at_three, range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ObjectChangedError) as caught:
            next(results)
        assert (caught.value.message, caught.value.hint) == ("s3://b/k changed.", "Run again.")
        assert str(caught.value) == "s3://b/k changed.\nRun again."
        assert [*executor.map(fail_at_three, range(3))] == [0, 1, 2]


def test_a_killed_worker_is_an_error_with_a_hint() -> None:
    with (
        LocalExecutor(workers=2) as executor,
        pytest.raises(WorkerDiedError, match="PIXEL_WORKERS"),
    ):
        list(executor.map(die_at_three, range(20)))
    assert issubclass(WorkerDiedError, PixelError)


def test_leaving_early_does_not_wait_for_the_rest() -> None:
    with LocalExecutor(workers=2) as executor:
        assert next(executor.map(square_slowly, range(100_000)))[0] == 0
