"""The asset `conversations`: one event per partition, and failures that stop only their family."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pixel_pipeline.conversations.work.build import convert_family
from pixel_pipeline.defs.conversations import assets
from pixel_pipeline.defs.partitions import FAMILIES
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import LakeUnreachableError
from pixel_pipeline_tests.defs.loaded import defs
from pixel_pipeline_tests.defs.scenario import Scenario

SECRET = "words of a conversation"


@pytest.fixture
def scenario(lake: Lake, tmp_path: Path) -> Iterator[Scenario]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        scenario = Scenario(lake, instance)
        for family, count in (("Grief", 1), ("Sleep", 2), ("Work", 3)):
            for number in range(count):
                scenario.put(f"gdrive/raw/{family}/{number}.jsonl", f"{family} number {number}")
        scenario.run("refresh_inventory")
        yield scenario


def convert(scenario: Scenario, *, first: str, last: str) -> dg.ExecuteInProcessResult:
    """A run of a backfill over a range of partitions."""
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=scenario.instance,
        asset_selection=[dg.AssetKey("conversations")],
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        },
        raise_on_error=False,
    )


def latest(scenario: Scenario) -> dict[str | None, tuple[int, str]]:
    """Row count and data version of the newest materialization of each partition."""
    found: dict[str | None, tuple[int, str]] = {}
    for record in scenario.instance.fetch_materializations(dg.AssetKey("conversations"), limit=100).records:
        event = record.asset_materialization
        assert event is not None
        count = event.metadata.get("dagster/partition_row_count", event.metadata.get("dagster/row_count"))
        assert count is not None
        tags = event.tags or {}
        found.setdefault(event.partition, (int(str(count.value)), tags.get("dagster/data_version", "")))
    return found


def test_a_range_of_partitions_has_row_counts_and_versions_of_its_own(scenario: Scenario) -> None:
    assert scenario.instance.get_dynamic_partitions(FAMILIES.name or "") == ["grief", "sleep", "work"]
    result = convert(scenario, first="grief", last="work")
    assert result.success
    events = result.get_asset_materialization_events()
    assert sorted(str(event.partition) for event in events) == ["grief", "sleep", "work"]
    found = latest(scenario)
    assert {family: rows for family, (rows, _) in found.items()} == {"grief": 1, "sleep": 2, "work": 3}
    assert len({version for _, version in found.values()}) == 3
    # The versions are those of runs of one partition.
    (request,) = [dg.RunRequest(partition_key="sleep")]
    scenario.start(request)
    assert latest(scenario)["sleep"] == found["sleep"]


def test_a_run_of_all_families_reports_each_and_the_sum(scenario: Scenario) -> None:
    scenario.run("prepare_data")
    found = latest(scenario)
    assert {family: rows for family, (rows, _) in found.items()} == {
        "grief": 1,
        "sleep": 2,
        "work": 3,
        None: 6,
    }


def test_a_range_followed_by_other_assets_goes_on_to_them(scenario: Scenario) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=scenario.instance,
        asset_selection=[dg.AssetKey("conversations"), dg.AssetKey("curated")],
        tags={"dagster/asset_partition_range_start": "grief", "dagster/asset_partition_range_end": "work"},
    )
    assert result.success
    assert result.asset_materializations_for_node("curated")


def failing(monkeypatch: pytest.MonkeyPatch, errors: list[Exception | None]) -> None:
    """Let the conversion of `grief` end with these errors, one per attempt."""

    def convert_or_fail(lake: Lake, *, rule: Any, **options: Any) -> Any:
        if rule.family == "grief" and (error := errors.pop(0) if errors else None) is not None:
            raise error
        return convert_family(lake, rule=rule, **options)

    monkeypatch.setattr(assets, "convert_family", convert_or_fail)


def headline(result: dg.ExecuteInProcessResult) -> str:
    failure = result.failure_data_for_node("conversations")
    assert failure is not None
    assert failure.user_failure_data is not None
    return str(failure.user_failure_data.description)


def test_a_failed_family_does_not_stop_the_others(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, [KeyError(SECRET)])
    result = convert(scenario, first="grief", last="work")
    assert not result.success
    assert headline(result) == (
        "1 of 3 families failed; the others are converted.\ngrief: unexpected KeyError"
    )
    assert {family: rows for family, (rows, _) in latest(scenario).items()} == {"sleep": 2, "work": 3}
    # Unexpected errors may quote the data.
    records = scenario.instance.get_records_for_run(result.run_id).records
    assert any("convert_or_fail" in record.event_log_entry.user_message for record in records)
    assert not any(SECRET in str(record.event_log_entry) for record in records)
    assert "STEP_UP_FOR_RETRY" not in [event.event_type_value for event in result.all_events]


def test_a_transient_error_is_tried_again(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixel_pipeline.defs.failures.RETRY_SECONDS", 0.0)
    failing(monkeypatch, [LakeUnreachableError("S3 does not answer."), None])
    result = convert(scenario, first="grief", last="work")
    assert result.success
    assert {family: rows for family, (rows, _) in latest(scenario).items()} == {
        "grief": 1,
        "sleep": 2,
        "work": 3,
    }
