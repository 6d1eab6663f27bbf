"""Tasks on a real Ray on this machine: same results as local processes, and no access for others."""

from collections.abc import Callable, Iterator, Sequence
import os
from pathlib import Path
import signal
import time
import uuid

import psutil
import pyarrow as pa
import pytest

from pixel_pipeline.compute.executor import Executor, Result, Task, WorkerDiedError
from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.compute.ray_executor import RayExecutor
from pixel_pipeline.compute.ray_session import ClusterError
from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.conversations.work import plan as tasks
from pixel_pipeline.conversations.work.build import FamilyReport, convert_family, families_of
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.s3.errors import ObjectChangedError
from pixel_pipeline.settings import CREDENTIAL_CHAIN, Settings
from pixel_pipeline_tests.compute.session_folders import session_folders
from pixel_pipeline_tests.conversations.converted import lines, sharegpt


@pytest.fixture(scope="module")
def executor() -> Iterator[RayExecutor]:
    """A Ray with two CPUs for all tests of this file."""
    handler = signal.getsignal(signal.SIGTERM)
    with RayExecutor(workers=2, environment={"PIXEL_BUCKET": "passed-on"}) as executor:
        assert executor.workers == 2
        assert signal.getsignal(signal.SIGTERM) is handler
        yield executor
    assert not [child for child in psutil.Process().children(recursive=True) if "ray" in child.name()]


class Counted(Sequence[int]):
    """Numbers from 0 that count how many were taken."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.taken = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> int:  # type: ignore[override]
        if number >= self.length:
            raise IndexError
        self.taken = max(self.taken, number + 1)
        return number


def square_slowly(number: int) -> tuple[int, int]:
    """The first tasks take longest, so that later tasks finish before them."""
    time.sleep(0.1 if number < 2 else 0)
    return number * number, os.getpid()


def fail_at_three(task: tuple[int, Exception]) -> int:
    number, error = task
    if number == 3:
        raise error
    return number


def die_the_first_time(marker: Path) -> int:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def unpicklable(number: int) -> object:
    return (item for item in range(number))


def test_results_of_worker_processes_keep_the_order(executor: RayExecutor) -> None:
    results = [*executor.map(square_slowly, range(12))]
    assert [value for value, _ in results] == [number * number for number in range(12)]
    assert os.getpid() not in {pid for _, pid in results}


@pytest.mark.parametrize("tasks", [0, 1])
def test_a_single_task_uses_this_process_and_starts_nothing(tasks: int) -> None:
    with RayExecutor(workers=4, address="ray://127.0.0.1:1") as executor:
        results = [*executor.map(square_slowly, range(tasks))]
    assert {pid for _, pid in results} <= {os.getpid()}
    assert len(results) == tasks


def test_a_bounded_number_of_tasks_runs_ahead(executor: RayExecutor) -> None:
    tasks = Counted(30)
    results = executor.map(square_slowly, tasks)
    for number in range(30):
        assert next(results)[0] == number * number
        assert tasks.taken == min(30, number + 4)
    assert [*results] == []


@pytest.mark.parametrize(
    "error",
    [
        ObjectChangedError("s3://b/k changed.", hint="Run again."),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ValueError(f"a quoted conversation {uuid.uuid4()}"),
    ],
)
def test_an_error_is_raised_unchanged_and_logged_nowhere(executor: RayExecutor, error: Exception) -> None:
    results = executor.map(fail_at_three, [(number, error) for number in range(100)])
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)) as caught:
        next(results)
    assert type(caught.value) is type(error)
    assert (str(caught.value), caught.value.args) == (str(error), error.args)
    assert caught.value.__dict__.items() >= error.__dict__.items()
    assert "test_ray.py" in caught.value.__notes__[0]
    (folder,) = session_folders(psutil.Process().children(recursive=True))
    written = [*folder.glob("r/session_*/logs/*")]
    assert any("worker" in path.name for path in written)
    text = str(error).encode()
    assert [path for path in written if path.is_file() and text in path.read_bytes()] == []
    assert [*executor.map(die_at_three, range(3))] == [0, 1, 2]


def test_a_task_whose_worker_is_killed_runs_again(executor: RayExecutor, tmp_path: Path) -> None:
    markers = [tmp_path / str(number) for number in range(2)]
    assert os.getpid() not in [*executor.map(die_the_first_time, markers)]
    assert all(marker.exists() for marker in markers)


def test_a_task_that_kills_every_worker_is_an_error_with_the_attempts(executor: RayExecutor) -> None:
    results = executor.map(die_at_three, range(20))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(WorkerDiedError, match="each of 3 attempts"):
        next(results)
    assert [*executor.map(die_at_three, range(3))] == [0, 1, 2]


def test_an_error_of_ray_is_a_cluster_error(executor: RayExecutor) -> None:
    with pytest.raises(ClusterError, match="could not run a task: TypeError"):
        [*executor.map(unpicklable, range(2))]


def test_leaving_early_does_not_wait_for_the_rest(executor: RayExecutor) -> None:
    assert next(executor.map(square_slowly, range(100_000)))[0] == 0
    assert len([*executor.map(square_slowly, range(4))]) == 4


def test_workers_have_their_environment_and_report_nothing(executor: RayExecutor) -> None:
    assert [*executor.map(os.getenv, ["PIXEL_BUCKET", "RAY_USAGE_STATS_ENABLED"])] == ["passed-on", "0"]
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()


def test_other_users_and_machines_have_no_access(executor: RayExecutor) -> None:
    """Ray listens on loopback, requires a token, and hides its files from other users."""
    processes = psutil.Process().children(recursive=True)
    addresses = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    mode, token = executor.map(os.getenv, ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN"])
    assert mode == "token"
    assert len(token or "") == 64
    (folder,) = session_folders(processes)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_conversions_on_ray_and_on_local_processes_give_the_same_bytes(
    executor: RayExecutor, lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of the lake are raised unchanged."""
    monkeypatch.setattr(tasks, "TASK_BYTES", 10_000)
    for number in range(3):
        record = lines(sharegpt(f"Question {number}", "Answer. " * 100), b'{"broken')
        lake.data.put(f"{keys.RAW}/Calm/{number}.jsonl", record * 30)
    inventory = list_raw(lake).objects
    local = Watched(LocalExecutor(workers=1))
    expected = _convert(lake, inventory, executor=local)
    assert (expected.objects, expected.records_in) == (3, 2 * expected.records_out)
    files = _stored(lake)
    for prefix in (keys.PROCESSED, keys.INTERNAL):
        lake.data.delete([item.key for item in lake.data.list(prefix)])
    no_keys = {variable: "" for pair in CREDENTIAL_CHAIN for variable in pair}
    with RayExecutor(workers=2, environment=settings.worker_environment() | no_keys) as ray:
        watched = Watched(ray)
        assert _convert(lake, inventory, executor=watched) == expected
        assert watched.tasks == local.tasks > 5
        assert _stored(lake) == files
        lake.data.put(f"{keys.RAW}/Calm/1.jsonl", lines(sharegpt("Changed during the run", "Yes.")))
        for prefix in (keys.PROCESSED, keys.INTERNAL):
            lake.data.delete([item.key for item in lake.data.list(prefix)])
        with pytest.raises(ObjectChangedError, match=r"Calm/1\.jsonl"):
            _convert(lake, inventory, executor=watched)


def _stored(lake: Lake) -> dict[str, bytes]:
    """Files of all tables by name, except logs, which contain times."""
    listed = [item.key for prefix in (keys.PROCESSED, keys.CONVERSION) for item in lake.data.list(prefix)]
    return {key: lake.data.get(key) for key in listed if "_delta_log" not in key}


class Watched:
    """An executor that counts its tasks."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.tasks = 0

    @property
    def workers(self) -> int:
        return self.executor.workers

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        self.tasks += len(tasks)
        return self.executor.map(function, tasks)


def _convert(lake: Lake, inventory: pa.Table, *, executor: Executor) -> FamilyReport:
    ((rule, objects),) = families_of(inventory, config=FamilyConfig(), bucket=lake.data.name).values()
    return convert_family(lake, rule=rule, objects=objects, executor=executor)
