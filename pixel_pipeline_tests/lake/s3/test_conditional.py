"""Stores without conditional writes: found out once, and then one writer at a time, on one machine."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
import logging
from pathlib import Path
import signal
import subprocess
import sys
import threading

import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.lake.embedded import server as embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3 import client, conditional
from pixel_pipeline.lake.s3.conditional import ask, race_creates, supports_conditional_create
from pixel_pipeline.lake.s3.errors import LakeAccessError, ObjectExistsError
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import Settings
from pixel_pipeline_tests.faults import Fault, FaultProxy, without_conditions

REFUSAL = Fault("status", status=501, code="NotImplemented", header="If-None-Match")


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditional, "_warned", threading.Event())
    # The library repeats a 501, as if it could pass.
    monkeypatch.setattr(client, "MAX_RETRIES", 1)


@pytest.fixture
def ignoring(proxy: FaultProxy, server: embedded.EmbeddedServer) -> FaultProxy:
    """A store that creates what is there already."""
    proxy.rewrite = without_conditions(server)
    return proxy


@pytest.fixture
def refusing(proxy: FaultProxy) -> FaultProxy:
    """A store that knows no If-None-Match."""
    proxy.always = REFUSAL
    return proxy


@pytest.fixture
def own_home(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that knows nothing yet."""
    monkeypatch.setenv("PIXEL_HOME", str(tmp_path))
    return tmp_path


def probes(proxy: FaultProxy) -> int:
    return sum(
        request.startswith("PUT ") and f"/{conditional.PROBES}/" in request for request in proxy.requests
    )


def test_the_embedded_server_has_them(lake: Lake) -> None:
    assert supports_conditional_create(lake.data)
    assert race_creates(lake.data, writers=4) == 1
    assert not lake.single_writer
    assert [*lake.data.list(conditional.PROBES)] == []


def test_a_store_that_ignores_them_is_found_out(
    ignoring: FaultProxy, connect: Callable[..., Lake], lake: Lake
) -> None:
    bucket = connect(ignoring.endpoint).data
    assert ask(bucket) == "ignored"
    assert not supports_conditional_create(bucket)
    assert race_creates(bucket, writers=4) == 4
    assert [*lake.data.list(conditional.PROBES)] == []


def test_a_store_that_refuses_them_is_found_out(refusing: FaultProxy, connect: Callable[..., Lake]) -> None:
    bucket = connect(refusing.endpoint).data
    assert ask(bucket) == "refused"
    assert race_creates(bucket, writers=4) == 0


@pytest.mark.usefixtures("own_home")
def test_a_store_that_cannot_be_asked_is_not_judged(
    proxy: FaultProxy, connect: Callable[..., Lake], own_home: Path
) -> None:
    lake = connect(proxy.endpoint)
    proxy.always = Fault("status", status=403, code="AccessDenied", on="^PUT")
    with pytest.raises(LakeAccessError):
        lake.data.put("key", b"", create_only=True)
    proxy.always = None
    assert not lake.single_writer


def test_a_store_is_asked_once_in_a_while(
    ignoring: FaultProxy, connect: Callable[..., Lake], own_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        lake = connect(ignoring.endpoint)
        assert lake.single_writer
        assert lake.single_writer
    assert probes(ignoring) == 2
    (remembered,) = (own_home / "conditional_writes").iterdir()
    told = orjson.loads(remembered.read_bytes())
    told["asked"] = (datetime.now(UTC) - conditional.VERDICT_AGE - timedelta(minutes=1)).isoformat()
    for content in (orjson.dumps(told), b'{"verdict": "ho', b'{"verdict": 7}', b"[]"):
        remembered.write_bytes(content)
        before = probes(ignoring)
        assert connect(ignoring.endpoint).single_writer
        assert probes(ignoring) == before + 2
    assert [*remembered.parent.iterdir()] == [remembered]
    # Once a process, whatever is asked how often.
    (warning,) = (record for record in caplog.records if record.name == "pixel_pipeline")
    assert warning.levelno == logging.WARNING
    for word in ("SINGLE-WRITER", lake.data.name, "one machine", "pixel doctor"):
        assert word in warning.getMessage()


@pytest.mark.parametrize(("setting", "single_writer"), [("on", False), ("off", True)])
def test_the_setting_spares_the_question(
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    single_writer: bool,
) -> None:
    monkeypatch.setenv("PIXEL_S3_CONDITIONAL_WRITES", setting)
    lake = connect(proxy.endpoint)
    assert lake.single_writer == single_writer
    assert proxy.requests == []


@pytest.fixture(params=["ignoring", "refusing"])
def single(request: pytest.FixtureRequest, connect: Callable[..., Lake], own_home: Path) -> Lake:
    """A lake in single-writer mode."""
    return connect(request.getfixturevalue(request.param).endpoint)


def test_create_only_without_conditional_writes(single: Lake, lake: Lake) -> None:
    def create(number: int) -> bool:
        try:
            single.data.put("once", b"%d" % number, create_only=True)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [*pool.map(create, range(8))]
    assert sum(won) == 1
    assert lake.data.get("once") == b"%d" % won.index(True)


def add_one(lake: Lake, guard: Callable[[str], AbstractContextManager[None]]) -> None:
    with guard("counter"):
        count = lake.data.get_json("count")
        lake.data.put_json("count", count + 1)


def test_writers_of_a_machine_wait_for_each_other(
    ignoring: FaultProxy, connect: Callable[..., Lake], own_home: Path, lake: Lake
) -> None:
    lake.data.put_json("count", 0)
    writers = [connect(ignoring.endpoint) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        [*pool.map(lambda number: add_one(writers[number % 4], writers[number % 4].writing), range(20))]
    assert lake.data.get_json("count") == 20


def test_nobody_waits_where_the_store_decides(lake: Lake, settings: Settings) -> None:
    with lake.writing("table"), lake.writing("table"):
        pass
    assert not (settings.home / "locks").exists()


def test_a_killed_writer_lets_go(ignoring: FaultProxy, connect: Callable[..., Lake], own_home: Path) -> None:
    lake = connect(ignoring.endpoint)
    holder = (
        "import sys\n"
        "from pixel_pipeline.lake.s3.bucket import Lake\n"
        "from pixel_pipeline.settings import get_settings\n"
        "with Lake.open(get_settings()).writing('table'):\n"
        "    print('holding', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holding\n"
        entered = threading.Event()

        def enter() -> None:
            with lake.writing("table"):
                entered.set()

        waiting = threading.Thread(target=enter)
        waiting.start()
        with lake.writing("another table"):
            assert not entered.is_set()
        process.send_signal(signal.SIGKILL)
        waiting.join(60)
    assert entered.is_set()


WRITER = """
import sys
import pyarrow as pa
from pixel_pipeline.lake.s3 import client
client.MAX_RETRIES = 1
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import get_settings

table = Table(Lake.open(get_settings()), "table")
for number in range(6):
    table.append(pa.table({"n": [number]}))
"""


@pytest.mark.parametrize("kind", ["ignoring", "refusing"])
def test_commits_of_two_processes_are_not_lost(
    kind: str, request: pytest.FixtureRequest, connect: Callable[..., Lake], own_home: Path, lake: Lake
) -> None:
    """Twelve commits, so that there is a checkpoint among them."""
    connect(request.getfixturevalue(kind).endpoint)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER], stderr=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        _, said = writer.communicate()
        assert writer.returncode == 0, said
        assert said.count(b"SINGLE-WRITER MODE") == 1
    table = Table(lake, "table")
    assert sorted(table.read()["n"].to_pylist()) == sorted([*range(6)] * 2)
    assert table.version() == 11
    assert lake.data.exists("table/_delta_log/_last_checkpoint")
    assert table.overwrite(pa.table({"n": [7]})).version == 12
    assert table.read()["n"].to_pylist() == [7]


def test_a_commit_whose_upload_fails_is_none(
    refusing: FaultProxy, connect: Callable[..., Lake], own_home: Path, lake: Lake
) -> None:
    table = Table(connect(refusing.endpoint), "table")
    table.append(pa.table({"n": [1]}))
    refusing.always = Fault("status", status=403, code="AccessDenied", on=r"PUT .*/_delta_log/")
    with pytest.raises(LakeAccessError):
        table.append(pa.table({"n": [2]}))
    refusing.always = REFUSAL
    assert table.append(pa.table({"n": [3]})).version == 1
    assert sorted(Table(lake, "table").read()["n"].to_pylist()) == [1, 3]
