"""The asset `raw_inventory`: its metadata, and its check of unreadable keys."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from pixel_pipeline.defs.partitions import known_families
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.control import control_client
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline_tests.defs.scenario import Scenario


@pytest.fixture
def scenario(lake: Lake) -> Iterator[Scenario]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scenario(lake, instance)


def facts(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def data_version(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.tags is not None
    return event.materialization.tags["dagster/data_version"]


def test_it_reports_objects_bytes_families_and_changes(scenario: Scenario) -> None:
    for key in (
        "gdrive/raw/Grief/1.jsonl",
        "gdrive/raw/Grief/2.jsonl",
        "acquired/Sleep/1.jsonl",
        "gdrive/raw/loose",
    ):
        scenario.put(key, "one")
    first = scenario.run("refresh_inventory")
    reported = facts(first)
    size = len(scenario.lake.data.get("gdrive/raw/loose"))
    assert (reported["objects"], reported["dagster/row_count"]) == (4, 4)
    assert reported["size (MB)"] == pytest.approx(4 * size / 1e6, rel=0.01)
    assert (reported["added"], reported["changed"], reported["removed"]) == (4, 0, 0)
    assert (reported["unsorted objects"], reported["reused"]) == (1, False)
    assert "| grief | 2 |" in reported["families"]
    assert known_families(scenario.instance) == {"grief", "sleep", "unsorted"}

    # The same bytes again: nothing changed.
    scenario.put("gdrive/raw/loose", "one")
    again = scenario.run("refresh_inventory")
    assert data_version(again) == data_version(first)
    assert data_version(first).startswith(reported["version"])
    assert facts(again)["reused"]
    # As text, so that plots over time skip the run.
    assert facts(again)["objects"] == "4"
    assert Table(scenario.lake, keys.INVENTORY).version() == 0

    scenario.put("gdrive/raw/Grief/2.jsonl", "two")
    scenario.lake.data.delete(["acquired/Sleep/1.jsonl"])
    third = scenario.run("refresh_inventory")
    assert data_version(third) != data_version(first)
    reported = facts(third)
    assert (reported["added"], reported["changed"], reported["removed"]) == (0, 1, 1)
    assert known_families(scenario.instance) == {"grief", "unsorted"}


def test_unreadable_keys_fail_the_check_and_nothing_else(scenario: Scenario) -> None:
    scenario.put("gdrive/raw/Grief/1.jsonl", "one")
    client = control_client(scenario.lake.target)
    for number in range(25):
        key = f"gdrive/raw/Grief/line\n{number:02}|x"
        client.put_object(Bucket=scenario.lake.data.name, Key=key, Body=b"{}")
    result = scenario.run("refresh_inventory")
    assert facts(result)["objects"] == 1
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.severity) == ("raw_keys", False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["unreadable"].value == 25
    named = str(check.metadata["keys"].value)
    assert r"gdrive/raw/Grief/line\n19\|x" in named
    assert r"line\n20" not in named

    prefix = {"Bucket": scenario.lake.data.name, "Prefix": "gdrive/raw/Grief/line"}
    for item in client.list_objects_v2(**prefix)["Contents"]:
        client.delete_object(Bucket=scenario.lake.data.name, Key=item["Key"])
    (check,) = scenario.run("refresh_inventory").get_asset_check_evaluations()
    assert check.passed


def test_an_empty_lake_fails_with_the_next_step(scenario: Scenario) -> None:
    result = scenario.run("refresh_inventory", succeeds=False)
    failure = result.failure_data_for_node("raw_inventory")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "pixel ingest PATH" in (failure.user_failure_data.description or "")
