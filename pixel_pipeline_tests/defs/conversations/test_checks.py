"""A file over its error budget fails the check, and does not stop the others."""

from collections.abc import Iterator

import dagster as dg
import pytest

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline_tests.conversations.converted import lines
from pixel_pipeline_tests.defs.scenario import Scenario


@pytest.fixture
def scenario(lake: Lake) -> Iterator[Scenario]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scenario(lake, instance)


def test_a_file_over_its_budget_fails_the_check_only(scenario: Scenario) -> None:
    scenario.put("gdrive/raw/Calm/a.jsonl", "sleep")
    scenario.lake.data.put("gdrive/raw/Work/rotten.jsonl", lines(*[{"odd": 1}] * 3_000))
    result = scenario.run("prepare_data")
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert checks["conservation"].passed
    check = checks["error_budget"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.description == (
        "1 source is over the error budget. gdrive/raw/Work/rotten.jsonl: 3,000 of 3,000 records are bad (100.0%, 50.0% "
        "allowed; 3,000 in a row, 1,000 allowed): unrecognised_schema 3,000. `pixel quarantine list` shows the reasons."
    )
    assert check.metadata["sources"].value == 1
    assert check.metadata["records"].value == 3_000
    assert "gdrive/raw/Work/rotten.jsonl" in str(check.metadata["over budget"].value)
    assert Table(scenario.lake, keys.QUARANTINE).row_count() < 300
    assert Table(scenario.lake, keys.CURATED).row_count() == 1

    scenario.lake.data.delete(["gdrive/raw/Work/rotten.jsonl"])
    checks = {check.check_name: check for check in scenario.run("prepare_data").get_asset_check_evaluations()}
    assert checks["error_budget"].passed
    assert checks["error_budget"].description == "Every source is within its error budget."


def test_the_report_of_the_check_is_bounded(scenario: Scenario) -> None:
    for n in range(30):
        scenario.lake.data.put(f"gdrive/raw/Work {n}/rotten.jsonl", lines(*[{"odd": 1}] * 25))
    check = next(
        check
        for check in scenario.run("prepare_data", succeeds=False).get_asset_check_evaluations()
        if check.check_name == "error_budget"
    )
    assert check.description is not None
    assert "and 27 more" in check.description
    assert str(check.metadata["over budget"].value).count("rotten.jsonl") == 20
