"""The training process behind a Pipes client that a test replaces: configuration, results and failures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
import sys
from typing import Any

import dagster as dg
import pytest

from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.defs.training.assets import moe_checkpoint
from pixel_pipeline.defs.training.process import death, materialize
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key
from pixel_pipeline_tests.defs.loaded import defs
from pixel_pipeline_tests.defs.scenario import Scenario

REPORT = """
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    {body}
"""


class Client(dg.PipesClient):  # type: ignore[misc]
    """Records the extras and runs a script instead of the module."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.extras: Mapping[str, Any] = {}

    def run(self, *, context: Any, extras: Any = None, command: Sequence[str] = ()) -> Any:  # type: ignore[override]
        self.extras = extras
        return dg.PipesSubprocessClient().run(
            context=context, command=[sys.executable, "-c", self.script], extras=extras
        )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(script: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """A run of an asset whose process is a script."""

    @dg.asset
    def model(context: dg.AssetExecutionContext, pipes: dg.ResourceParam[dg.PipesClient]) -> Any:
        return materialize(context, pipes, module="train", extras={})

    return dg.materialize(
        [model], resources={"pipes": Client(script)}, instance=instance, raise_on_error=False
    )


def headline(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    failure = result.failure_data_for_node("model")
    assert failure is not None
    assert failure.user_failure_data is not None
    # The headline is all: no chain of errors behind it.
    assert failure.error is not None
    assert failure.error.cause is None
    return str(failure.user_failure_data.description)


def test_a_result_is_the_materialization(instance: dg.DagsterInstance) -> None:
    body = "pipes.report_asset_materialization(metadata={'steps': 3}, data_version='abc')"
    result = run(REPORT.format(body=body), instance)
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["steps"].value == 3
    assert (event.materialization.tags or {})["dagster/data_version"] == "abc"


def test_a_reported_error_is_the_headline(instance: dg.DagsterInstance) -> None:
    body = "pipes.report_custom_message({'failure': 'No H100.\\nTake another.', 'transient': False})"
    assert headline(run(REPORT.format(body=body), instance)) == "No H100.\nTake another."


def test_a_process_without_a_result_is_a_failure(instance: dg.DagsterInstance) -> None:
    assert "ended without a result" in headline(run(REPORT.format(body="pass"), instance))


def test_a_killed_process_is_a_failure_with_the_likely_cause(instance: dg.DagsterInstance) -> None:
    body = "import os; os.kill(os.getpid(), 9)"
    assert "out of memory" in headline(run(REPORT.format(body=body), instance))


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("External execution process failed with code -9", "out of memory"),
        ("External execution process failed with code -6", "SIGABRT"),
        ("External execution process failed with code 3", "without reporting its error"),
        ("Pod failed", "Pod failed"),
    ],
)
def test_the_headline_for_a_process_that_reported_nothing(report: str, words: str) -> None:
    assert words in death(report)


def test_run_configuration_reaches_the_trainer(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario(lake, instance)
    for number in range(40):
        scenario.put(f"gdrive/raw/Calm/{number}.jsonl", f"sleep number {number}")
    scenario.run("prepare_data")
    monkeypatch.setenv("PIXEL_TRAINING_STEPS", "9")
    client = Client(REPORT.format(body="pipes.report_asset_materialization(metadata={}, data_version='x')"))

    def trained(config: dict[str, Any]) -> Mapping[str, Any]:
        job = dg.Definitions(
            assets=[moe_checkpoint], resources={"lake": LakeResource(), "pipes": client}
        ).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=instance, run_config={"ops": {"moe_checkpoint": {"config": config}}}
        )
        assert result.success
        return client.extras

    plain = trained({})
    assert (plain["config"]["steps"], plain["hours"], plain["run"]) == (9, None, None)
    assert plain["manifest_key"] == current_manifest_key(lake.data)

    asked = trained(
        {
            "steps": 12,
            "hours": 1.5,
            "priority": "quality",
            "run": "mine",
            "sequence_length": 64,
            "curriculum": {"stages": [{"name": "one", "share": 0.5}, {"name": "two", "share": 0.5}]},
        }
    )
    assert (asked["config"]["steps"], asked["hours"], asked["run"]) == (12, 1.5, "mine")
    # Of the priority.
    assert asked["config"]["early_stopping_patience"] == 5
    assert [stage["name"] for stage in asked["config"]["curriculum"]["stages"]] == ["one", "two"]
    made = ShardManifest.load(lake.data, asked["manifest_key"])
    assert made.sequence_length == 64
    # The current shards stay.
    assert lake.data.get_json(keys.CURRENT_TOKENS)["manifest"] == plain["manifest_key"]


def test_without_configuration_the_job_needs_none(tmp_path: Path) -> None:
    schema = defs.resolve_job_def("train_moe").run_config_schema
    assert schema.config_type.fields["ops"].is_required is False
