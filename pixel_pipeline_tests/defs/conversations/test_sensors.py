"""The sensor that turns changes in raw into runs, and retries failed ones."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import dagster as dg
import orjson
import pytest

from pixel_pipeline.defs.conversations import sensors
from pixel_pipeline.lake import embedded, keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import LakeUnreachableError
from pixel_pipeline.settings import Settings
from pixel_pipeline_tests.defs.loaded import defs
from pixel_pipeline_tests.defs.scenario import Scenario, sensor
from pixel_pipeline_tests.faults import FaultProxy


@pytest.fixture
def scenario(lake: Lake) -> Iterator[Scenario]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scenario(lake, instance)


def requests_of(result: dg.SensorResult | dg.SkipReason) -> list[dg.RunRequest]:
    assert isinstance(result, dg.SensorResult), result
    return [*(result.run_requests or [])]


def cursor_of(result: dg.SensorResult | dg.SkipReason) -> str:
    assert isinstance(result, dg.SensorResult), result
    assert result.cursor is not None
    return result.cursor


def families(result: dg.SensorResult | dg.SkipReason) -> list[str | None]:
    return [request.partition_key for request in requests_of(result)]


def test_without_an_inventory_it_waits(scenario: Scenario) -> None:
    result = scenario.tick(None)
    assert isinstance(result, dg.SkipReason)
    assert "refresh_inventory" in (result.skip_message or "")


def test_the_first_tick_converts_everything(scenario: Scenario) -> None:
    scenario.put("gdrive/raw/Grief/1.jsonl", "one")
    scenario.run("refresh_inventory")
    scenario.put("gdrive/raw/Sleep/1.jsonl", "two")
    scenario.run("refresh_inventory")
    first = scenario.tick(None)
    assert families(first) == [None]
    assert isinstance(scenario.tick(cursor_of(first)), dg.SkipReason)
    (request,) = requests_of(first)
    converted = scenario.start(request).get_asset_materialization_events()
    assert {event.partition for event in converted} == {"grief", "sleep", None}


def test_only_the_families_touched_are_run(scenario: Scenario) -> None:
    for family in ("Grief", "Sleep", "Voice"):
        scenario.put(f"gdrive/raw/{family}/1.jsonl", f"{family} one")
    scenario.run("refresh_inventory")
    cursor = cursor_of(scenario.tick(None))
    # In the same second: one object of equal size replaced, one added.
    scenario.put("gdrive/raw/Sleep/1.jsonl", "Sleep two")
    scenario.put("gdrive/raw/New Folder/1.jsonl", "new")
    scenario.run("refresh_inventory")
    second = scenario.tick(cursor)
    assert families(second) == ["new_folder", "sleep"]
    # A daemon that died before it kept the cursor asks for the same again, and Dagster starts no run key twice.
    again = scenario.tick(cursor)
    assert [request.run_key for request in requests_of(again)] == [
        request.run_key for request in requests_of(second)
    ]
    for request in requests_of(second):
        scenario.start(request)
    # Also where more has arrived meanwhile: only what has new changes has a new key.
    scenario.put("gdrive/raw/Sleep/2.jsonl", "three")
    scenario.run("refresh_inventory")
    later = {request.partition_key: request.run_key for request in requests_of(scenario.tick(cursor))}
    before = {request.partition_key: request.run_key for request in requests_of(second)}
    assert later["new_folder"] == before["new_folder"]
    assert later["sleep"] != before["sleep"]
    assert families(scenario.tick(cursor_of(second))) == ["sleep"]


def test_a_family_that_returns_to_an_earlier_state_is_run_again(scenario: Scenario) -> None:
    run_keys = []
    scenario.put("gdrive/raw/Grief/1.jsonl", "one")
    scenario.run("refresh_inventory")
    cursor = cursor_of(scenario.tick(None))
    for question in ("two", "one", "two"):
        scenario.put("gdrive/raw/Grief/1.jsonl", question)
        scenario.run("refresh_inventory")
        result = scenario.tick(cursor)
        cursor = cursor_of(result)
        run_keys += [request.run_key for request in requests_of(result)]
    assert len(set(run_keys)) == 3


def test_the_records_of_a_removed_family_are_removed(scenario: Scenario) -> None:
    scenario.put("gdrive/raw/Grief/1.jsonl", "one")
    scenario.put("gdrive/raw/Sleep/1.jsonl", "two")
    scenario.run("refresh_inventory")
    cursor = cursor_of(scenario.tick(None))
    scenario.lake.data.delete(["gdrive/raw/Sleep/1.jsonl"])
    scenario.run("refresh_inventory")
    assert families(scenario.tick(cursor)) == [None]


def test_many_families_are_one_run(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "MOST_RUNS", 2)
    scenario.put("gdrive/raw/A/1.jsonl", "one")
    scenario.run("refresh_inventory")
    cursor = cursor_of(scenario.tick(None))
    for family in ("A", "B"):
        scenario.put(f"gdrive/raw/{family}/2.jsonl", "more")
    scenario.run("refresh_inventory")
    assert families(scenario.tick(cursor)) == ["a", "b"]
    scenario.put("gdrive/raw/C/2.jsonl", "more")
    scenario.run("refresh_inventory")
    assert families(scenario.tick(cursor)) == [None]


def test_a_cursor_of_another_log_converts_everything(scenario: Scenario) -> None:
    scenario.put("gdrive/raw/A/1.jsonl", "one")
    scenario.run("refresh_inventory")
    cursor = cursor_of(scenario.tick(None))
    for stale in (orjson.dumps(["another", 7]).decode(), cursor.replace(",0]", ",-9]")):
        assert families(scenario.tick(stale)) == [None]
    assert len(cursor) < 100


def record_run(
    instance: dg.DagsterInstance, *, status: dg.DagsterRunStatus, family: str | None = None
) -> None:
    """A run that the sensor asked for."""
    tags = sensors.TAG | ({} if family is None else {"dagster/partition": family})
    job = defs.resolve_job_def("prepare_data")
    instance.create_run_for_job(job, status=status, tags=tags)


def test_failed_families_are_asked_for_again_with_growing_waits(scenario: Scenario) -> None:
    instance, failed = scenario.instance, dg.DagsterRunStatus.FAILURE
    instance.add_dynamic_partitions("family", ["grief", "sleep", "work"])

    def asked(minutes: float) -> list[str | None]:
        now = datetime.now(UTC) + timedelta(minutes=minutes)
        return [request.partition_key for request in sensors.failed_families(instance, now=now)]

    record_run(instance, status=failed, family="grief")
    record_run(instance, status=failed, family="sleep")
    record_run(instance, status=failed, family="gone")
    assert asked(4.9) == []
    assert sorted(map(str, asked(5.1))) == ["grief", "sleep"]
    record_run(instance, status=failed, family="grief")
    assert asked(5.1) == ["sleep"]
    assert sorted(map(str, asked(10.1))) == ["grief", "sleep"]
    # Neither a run that is under way nor one that succeeded is repeated.
    record_run(instance, status=dg.DagsterRunStatus.STARTED, family="grief")
    record_run(instance, status=dg.DagsterRunStatus.SUCCESS, family="sleep")
    assert asked(600) == []
    record_run(instance, status=failed)
    assert asked(5.1) == [None]
    record_run(instance, status=dg.DagsterRunStatus.SUCCESS)
    assert asked(600) == []


def test_a_tick_asks_again_without_a_change(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "RETRY_AFTER", timedelta())
    scenario.put("gdrive/raw/A/1.jsonl", "one")
    scenario.run("refresh_inventory")
    cursor = cursor_of(scenario.tick(None))
    record_run(scenario.instance, status=dg.DagsterRunStatus.FAILURE, family="a")
    (request,) = requests_of(scenario.tick(cursor))
    assert request.partition_key == "a"
    # One failure is answered by one run, however often the daemon asks.
    (again,) = requests_of(scenario.tick(cursor))
    assert again.run_key == request.run_key
    # A change of the same family is one request, not two.
    scenario.put("gdrive/raw/A/1.jsonl", "two")
    scenario.run("refresh_inventory")
    assert families(scenario.tick(cursor)) == ["a"]


def test_a_tick_lists_nothing_of_raw(
    scenario: Scenario, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        scenario.put(f"gdrive/raw/A/{number}.jsonl", "one")
    scenario.run("refresh_inventory")
    cursor = cursor_of(scenario.tick(None))
    scenario.put("gdrive/raw/A/3.jsonl", "more")
    scenario.run("refresh_inventory")
    server = embedded.ensure_running(settings.home)
    with FaultProxy(urlsplit(server.endpoint).port or 0) as proxy:
        monkeypatch.setenv("PIXEL_S3_ENDPOINT", proxy.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key.get_secret_value())
        assert families(scenario.tick(cursor)) == ["a"]
        assert any(keys.INVENTORY_CHANGES in request for request in proxy.requests)
        assert not [request for request in proxy.requests if "gdrive" in request or "acquired" in request]
        # One data file of two: what was read before is not read again.
        assert len([request for request in proxy.requests if ".parquet" in request and "GET" in request]) <= 2


def test_a_tick_without_s3_fails_with_the_reason(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    with pytest.raises(LakeUnreachableError, match=r"127\.0\.0\.1:9") as caught:
        scenario.tick(None)
    assert "planted" not in str(caught.value)


def test_it_runs_conversations_and_nothing_else() -> None:
    selection = sensor("raw_changes").asset_selection
    assert selection is not None
    selected = selection.resolve(defs.resolve_asset_graph())
    assert selected == {dg.AssetKey("conversations")}
