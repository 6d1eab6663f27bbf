"""Stores without conditional writes are recognised once, and writes that need them are refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.lake import embedded, keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3 import client, conditional
from pixel_pipeline.lake.s3.conditional import race_creates, verdict_of
from pixel_pipeline.lake.s3.errors import ConditionalWritesError, LakeAccessError, ObjectExistsError
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import Settings
from pixel_pipeline_tests.faults import Fault, FaultProxy, without_conditions

REFUSAL = Fault("status", status=501, code="NotImplemented", header="If-None-Match")
KEY = f"{keys.PROBES}/race"


@pytest.fixture(autouse=True)
def one_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    # obstore repeats a request after 501 as after any other 5xx.
    monkeypatch.setattr(client, "MAX_RETRIES", 1)


@pytest.fixture
def ignoring(proxy: FaultProxy, server: embedded.EmbeddedServer) -> FaultProxy:
    """A store that ignores If-None-Match."""
    proxy.rewrite = without_conditions(server)
    return proxy


@pytest.fixture
def refusing(proxy: FaultProxy) -> FaultProxy:
    """A store that answers 501 to If-None-Match."""
    proxy.always = REFUSAL
    return proxy


@pytest.fixture
def own_home(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PIXEL_HOME without verdicts."""
    monkeypatch.setenv("PIXEL_HOME", str(tmp_path))
    return tmp_path


def probes(proxy: FaultProxy) -> int:
    return sum(request.startswith("PUT ") and f"/{keys.PROBES}/" in request for request in proxy.requests)


def test_the_embedded_server_honours_them(lake: Lake) -> None:
    assert race_creates(lake.data, key=KEY, writers=4) == 1
    assert verdict_of(1) == "honoured"
    assert [*lake.data.list(keys.PROBES)] == []


@pytest.mark.parametrize(
    ("kind", "verdict", "winners"), [("ignoring", "ignored", 4), ("refusing", "refused", 0)]
)
def test_a_store_without_them_is_recognised(
    kind: str,
    verdict: str,
    winners: int,
    request: pytest.FixtureRequest,
    connect: Callable[..., Lake],
    lake: Lake,
) -> None:
    bucket = connect(request.getfixturevalue(kind).endpoint).data
    assert race_creates(bucket, key=KEY, writers=4) == winners
    assert verdict_of(winners) == verdict
    assert [*lake.data.list(keys.PROBES)] == []


@pytest.mark.parametrize("kind", ["ignoring", "refusing"])
def test_writes_that_need_them_are_refused_and_reads_are_not(
    kind: str, request: pytest.FixtureRequest, connect: Callable[..., Lake], own_home: Path, lake: Lake
) -> None:
    Table(lake, "table").append(pa.table({"n": [1]}))
    there = connect(request.getfixturevalue(kind).endpoint)
    with pytest.raises(ConditionalWritesError, match="If-None-Match") as refused:
        Table(there, "table").append(pa.table({"n": [2]}))
    assert "pixel doctor" in str(refused.value.hint)
    with pytest.raises(ConditionalWritesError):
        there.data.put("new", b"x", create_only=True)
    there.data.put("plain", b"x")
    assert Table(there, "table").read()["n"].to_pylist() == [1]
    assert not lake.data.exists("new")


def test_a_store_that_cannot_be_asked_is_not_judged(
    proxy: FaultProxy, connect: Callable[..., Lake], own_home: Path
) -> None:
    lake = connect(proxy.endpoint)
    proxy.always = Fault("status", status=403, code="AccessDenied", on="^PUT")
    with pytest.raises(LakeAccessError):
        lake.data.put("key", b"", create_only=True)
    proxy.always = None
    lake.data.put("key", b"", create_only=True)


def test_a_store_is_asked_once_in_seven_days(
    ignoring: FaultProxy, connect: Callable[..., Lake], own_home: Path
) -> None:
    def is_refused() -> bool:
        with pytest.raises(ConditionalWritesError):
            connect(ignoring.endpoint).data.put("key", b"", create_only=True)
        return True

    assert is_refused()
    assert is_refused()
    assert probes(ignoring) == 2
    (path,) = (own_home / "conditional_writes").iterdir()
    old = orjson.loads(path.read_bytes())
    old["asked"] = (datetime.now(UTC) - conditional.VERDICT_AGE - timedelta(minutes=1)).isoformat()
    for content in (orjson.dumps(old), b'{"verdict": "ho', b'{"verdict": 7}', b"[]"):
        path.write_bytes(content)
        before = probes(ignoring)
        assert is_refused()
        assert probes(ignoring) == before + 2
    assert [*path.parent.iterdir()] == [path]


def test_the_setting_replaces_the_question(
    proxy: FaultProxy, connect: Callable[..., Lake], own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXEL_S3_CONDITIONAL_WRITES", "off")
    with pytest.raises(ConditionalWritesError, match="PIXEL_S3_CONDITIONAL_WRITES=off"):
        connect(proxy.endpoint).data.put("key", b"", create_only=True)
    assert proxy.requests == []
    monkeypatch.setenv("PIXEL_S3_CONDITIONAL_WRITES", "on")
    lake = connect(proxy.endpoint)
    lake.data.put("key", b"", create_only=True)
    with pytest.raises(ObjectExistsError):
        lake.data.put("key", b"", create_only=True)
    assert probes(proxy) == 0
