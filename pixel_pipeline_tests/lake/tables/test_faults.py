"""Commits to tables under faults: complete or not at all, once and not twice, despite kills and concurrent writers."""

from collections.abc import Iterator
from datetime import timedelta
import os
import re
from typing import Any

import pyarrow as pa
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3 import client
from pixel_pipeline.lake.s3.errors import ObjectCorruptError
from pixel_pipeline.lake.tables.log import CONFIGURATION, TableLog, files_of
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.lake.tables.vacuum import vacuum
from pixel_pipeline.settings import Settings, get_settings
from pixel_pipeline_tests.children import Child, preload
from pixel_pipeline_tests.faults import Fault, FaultProxy

LOG_WRITE = r"^PUT .*/_delta_log/\d+\.json"
PARTS = ("a", "b")
preload(__name__)


def rows(part: str, number: int) -> pa.Table:
    """Three rows of one commit, with the same number."""
    return pa.table({"part": [part] * 3, "n": [number] * 3})


def write_to(lake: Lake, key: str, part: str, number: int) -> int:
    """Replace a partition's rows and return the version."""
    return Table(lake, key).overwrite(rows(part, number), partition={"part": part}).version


def write(part: str, number: int, key: str = "table") -> int:
    """`write_to` in the lake of the environment."""
    # A silent server times out soon.
    client.REQUEST_SECONDS = 1
    return write_to(Lake.open(get_settings()), key, part, number)


def write_often(part: str, count: int) -> list[int]:
    return [write(part, number) for number in range(count)]


def append(number: int) -> int:
    client.REQUEST_SECONDS = 1
    return Table(Lake.open(get_settings()), "log").append(rows("a", number)).version


def content(table: Table) -> dict[str, list[int]]:
    """Numbers by partition."""
    read = table.read().to_pylist()
    return {part: sorted(row["n"] for row in read if row["part"] == part) for part in PARTS}


@pytest.fixture
def server(lake: Lake, settings: Settings) -> embedded.EmbeddedServer:
    running = embedded.status(settings.home)
    assert running is not None
    return running


@pytest.fixture
def proxy(server: embedded.EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.ports["s3.port"]) as running:
        yield running


@pytest.fixture
def behind(proxy: FaultProxy, server: embedded.EmbeddedServer, settings: Settings) -> dict[str, str]:
    """The environment of a process that only reaches the lake through the proxy."""
    return {
        "PIXEL_S3_ENDPOINT": proxy.endpoint,
        "OVH_S3_ACCESS_KEY": server.access_key,
        "OVH_S3_SECRET_KEY": server.secret_key.get_secret_value(),
        **{name: os.environ[name] for name in ("PIXEL_HOME", "PIXEL_BUCKET", "PIXEL_CHECKPOINT_BUCKET")},
        "PIXEL_S3_CONDITIONAL_WRITES": "on",
    }


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_at_every_step_of_a_commit(
    lake: Lake, proxy: FaultProxy, behind: dict[str, str], monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """At requests of the commit and of its checkpoint: before the server does what they ask, and after.

    Args:
        every: One request in so many, and always the commit itself.
    """
    monkeypatch.setitem(CONFIGURATION, "delta.checkpointInterval", "3")
    for part in PARTS:
        write_to(lake, "table", part, 0)
    template = {item.key: lake.data.get(item.key) for item in lake.data.list("table")}

    def fresh(key: str) -> Table:
        for path, data in template.items():
            lake.data.put(key + path.removeprefix("table"), data)
        return Table(lake, key)

    fresh("counted")
    assert Child(write, "a", 10, "counted", environment=behind).result() == 2
    steps = list(proxy.requests)
    (commit,) = [step for step, request in enumerate(steps) if re.search(LOG_WRITE, request)]
    assert any("checkpoint" in request for request in steps[commit:])

    for step, request in enumerate(steps):
        if step % every and step != commit:
            continue
        # Whether the answer to a question was on its way makes no difference.
        for kind in ("hold", "stall") if request.startswith(("PUT", "POST")) else ("hold",):
            table = fresh(f"{kind}-{step}")
            proxy.silent.clear()
            proxy.faults = [*[Fault("none")] * step, Fault(kind)]
            child = Child(write, "a", 10, table.key, environment=behind)
            assert proxy.silent.wait(60)
            child.process.kill()
            assert child.result() is None
            committed = step > commit or (step == commit and kind == "stall")
            assert content(table) == {"a": [10 if committed else 0] * 3, "b": [0] * 3}, (step, request, kind)
            if kind == "hold":
                continue
            # The files left behind do not disturb the next writer, and vacuum deletes exactly them.
            assert write_to(lake, table.key, "a", 11) == table.version() == 2 + committed
            vacuum(table, older_than=timedelta(0), floor=timedelta(0), dry_run=False)
            left = {item.key for item in lake.data.list(table.key) if "_delta_log" not in item.key}
            assert left == {f"{table.key}/{path}" for path, _ in files_of(table.open())}
            assert content(table) == {"a": [11] * 3, "b": [0] * 3}


FAULTS = {
    "503 burst": [Fault("status", code="SlowDown", on=LOG_WRITE)] * 5,
    "500": [Fault("status", status=500, on=LOG_WRITE)],
    "409": [Fault("status", status=409, code="ConditionalRequestConflict", on=LOG_WRITE)],
    "412 without cause": [Fault("status", status=412, code="PreconditionFailed", on=LOG_WRITE)],
    "answer lost": [Fault("lose_answer", on=LOG_WRITE)],
    "answer silent": [Fault("stall", on=LOG_WRITE)],
    "request held": [Fault("hold", on=LOG_WRITE)],
    "answer cut": [Fault("truncate", after=20, on=LOG_WRITE)],
    "answer reset": [Fault("reset", after=20, on=LOG_WRITE)],
    "request cut": [Fault("cut_request", after=40, on=LOG_WRITE)],
    "request corrupted": [Fault("corrupt_request", after=40, on=LOG_WRITE)],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_the_commit_neither_loses_nor_doubles_it(
    lake: Lake, proxy: FaultProxy, behind: dict[str, str], fault: str
) -> None:
    table, log = Table(lake, "table"), Table(lake, "log")
    for part in PARTS:
        table.overwrite(rows(part, 0), partition={"part": part})
    for write_one, version in (
        (lambda: (write, "a", 1), 2),
        (lambda: (append, 1), 0),
        (lambda: (append, 2), 1),
    ):
        proxy.faults = list(FAULTS[fault])
        assert Child(*write_one(), environment=behind).result() == version
        assert not proxy.faults
    assert content(table) == {"a": [1] * 3, "b": [0] * 3}
    assert content(log) == {"a": [1] * 3 + [2] * 3, "b": []}
    assert (table.version(), log.version()) == (2, 1)


def test_a_failed_commit_raises_an_error_and_leaves_nothing(
    lake: Lake, proxy: FaultProxy, behind: dict[str, str]
) -> None:
    table = Table(lake, "table")
    table.overwrite(rows("a", 0), partition={"part": "a"})
    proxy.always = Fault("status", status=403, code="ExpiredToken", on=LOG_WRITE)
    with pytest.raises(PixelError, match=r"LakeWriteError: Could not write table s3://.*/table"):
        Child(write, "a", 1, environment=behind).result()
    proxy.always = Fault("status", status=403, code="ExpiredToken")
    with pytest.raises(PixelError, match=r"LakeAccessError: .*expired"):
        Child(write, "a", 1, environment=behind).result()
    assert content(table) == {"a": [0] * 3, "b": []}
    assert table.version() == 0


def test_processes_that_write_different_partitions_lose_nothing(
    lake: Lake, proxy: FaultProxy, behind: dict[str, str]
) -> None:
    writers = [Child(write_often, part, 5, environment=behind) for part in PARTS]
    versions = [version for writer in writers for version in writer.result()]
    assert sorted(versions) == [*range(10)]
    assert content(Table(lake, "table")) == {"a": [4] * 3, "b": [4] * 3}


def test_processes_that_write_the_same_partition_follow_one_another(
    lake: Lake, proxy: FaultProxy, behind: dict[str, str]
) -> None:
    writers = [Child(write_often, "a", 5, environment=behind) for _ in range(2)]
    versions = [version for writer in writers for version in writer.result()]
    assert sorted(versions) == [*range(10)]
    table = Table(lake, "table")
    for version in range(10):
        numbers = table.read(version=version)["n"].to_pylist()
        assert len(numbers) == 3
        assert len(set(numbers)) == 1


@pytest.mark.parametrize("first", [True, False], ids=["first commit", "later commit"])
@pytest.mark.parametrize("other", PARTS)
def test_another_commit_between_reading_the_log_and_committing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, other: str, first: bool
) -> None:
    """The critical moment of two concurrent writers."""
    table = Table(lake, "table")
    if not first:
        for part in PARTS:
            table.overwrite(rows(part, 0), partition={"part": part})
    base = -1 if first else 1
    looks, newest = [0], TableLog.newest

    def look(log: TableLog) -> Any:
        found = newest(log)
        looks[0] += 1
        # The commit builds on the second reading.
        if looks[0] == 2:
            Table(lake, "table").overwrite(rows(other, 7), partition={"part": other})
        return found

    monkeypatch.setattr(TableLog, "newest", look)
    assert table.overwrite(rows("a", 1), partition={"part": "a"}).version == base + 2
    expected = {"a": [1] * 3, "b": [7] * 3 if other == "b" else [] if first else [0] * 3}
    assert content(table) == expected


@pytest.mark.parametrize("every", [50, pytest.param(5, marks=pytest.mark.deep)])
def test_a_flipped_byte_of_a_file_is_found_or_harmless(lake: Lake, every: int) -> None:
    table = Table(lake, "table")
    table.overwrite(pa.table({"n": [*range(40)], "text": [f"invented words {n}" for n in range(40)]}))
    whole = table.read()
    dataset = table.dataset()
    ((path, size),) = files_of(table.open())
    data = lake.data.get(f"table/{path}")
    errors = []
    for place in range(0, size, every):
        lake.data.put(f"table/{path}", data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            read = table.scan(dataset, columns=None)
        except PixelError as error:
            errors.append(error)
            continue
        assert read.equals(whole), place
    assert sum(isinstance(error, ObjectCorruptError) for error in errors) > size // (4 * every)
    assert not any("invented" in str(error) for error in errors)
