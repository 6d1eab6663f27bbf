"""Automation takes changes from raw to the registry, and never starts training."""

from collections.abc import Iterator

import dagster as dg
import pytest

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline_tests.defs.loaded import defs
from pixel_pipeline_tests.defs.scenario import Scenario, sensor


@pytest.fixture
def scenario(lake: Lake) -> Iterator[Scenario]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scenario(lake, instance)


class Daemon:
    """Evaluates the conditions repeatedly and runs the requested assets together, as the daemon does."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.cursor = None

    def evaluate(self) -> list[str]:
        result = dg.evaluate_automation_conditions(defs, instance=self.scenario.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return sorted(item.key.to_user_string() for item in result.results if item.true_subset.size)

    def settle(self) -> list[str]:
        """Run requested assets until there are no requests; returns all assets in the order of their runs."""
        done: list[str] = []
        while requested := self.evaluate():
            assert self.run(requested).success
            done += requested
        return done

    def run(self, assets: list[str]) -> dg.ExecuteInProcessResult:
        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.scenario.instance,
            asset_selection=[dg.AssetKey(name) for name in assets],
            raise_on_error=False,
        )


def test_converted_families_are_curated_and_registered(scenario: Scenario) -> None:
    daemon = Daemon(scenario)
    assert daemon.evaluate() == []
    scenario.put("gdrive/raw/Grief/1.jsonl", "one")
    scenario.put("gdrive/raw/Sleep/1.jsonl", "two")
    scenario.run("refresh_inventory")
    tick = scenario.tick(None)
    assert daemon.evaluate() == []
    for request in tick.run_requests:
        scenario.start(request)
    assert daemon.settle() == ["curated", "dataset_registry"]
    registry = scenario.lake.data.get_json(keys.REGISTRY)
    assert registry["conversations"] == 2

    # One family changes: one run, and the registry follows once.
    scenario.put("gdrive/raw/Sleep/2.jsonl", "three")
    scenario.run("refresh_inventory")
    assert daemon.evaluate() == []
    (request,) = scenario.tick(tick.cursor).run_requests
    assert request.partition_key == "sleep"
    converted = scenario.start(request).get_asset_materialization_events()
    assert [event.partition for event in converted] == ["sleep"]
    assert daemon.settle() == ["curated", "dataset_registry"]
    assert scenario.lake.data.get_json(keys.REGISTRY)["conversations"] == 3


def test_data_refused_by_conservation_is_not_registered(scenario: Scenario) -> None:
    daemon = Daemon(scenario)
    daemon.evaluate()
    for family in ("Grief", "Sleep"):
        scenario.put(f"gdrive/raw/{family}/1.jsonl", family)
    scenario.run("refresh_inventory")
    tick = scenario.tick(None)
    for request in tick.run_requests:
        scenario.start(request)
    daemon.settle()
    # Two families change, and only one is converted.
    for family in ("Grief", "Sleep"):
        scenario.put(f"gdrive/raw/{family}/1.jsonl", f"{family} again")
    scenario.run("refresh_inventory")
    grief, _ = scenario.tick(tick.cursor).run_requests
    scenario.start(grief)
    before = scenario.lake.data.get(keys.REGISTRY)
    requested = daemon.evaluate()
    assert "curated" in requested
    # The check blocks within the run …
    assert not daemon.run(requested).success
    # … and the assets after it, also if someone runs the asset alone.
    assert daemon.evaluate() == []
    assert not daemon.run(["curated"]).success
    for _ in range(2):
        assert daemon.evaluate() == []
    assert scenario.lake.data.get(keys.REGISTRY) == before


def test_nothing_automatic_reaches_the_trainer() -> None:
    graph = defs.resolve_asset_graph()
    selected = sensor("automation").asset_selection.resolve(graph)
    assert {key.to_user_string() for key in selected} == {"curated", "dataset_registry"}
    with_condition = {
        key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).automation_condition
    }
    assert with_condition == {"curated", "dataset_registry"}
    started = {
        key.to_user_string() for sensor in defs.sensors for key in sensor.asset_selection.resolve(graph)
    } | {
        key.to_user_string()
        for schedule in defs.schedules
        for key in defs.resolve_job_def(schedule.job_name).asset_layer.selected_asset_keys
    }
    assert not started & {"token_shards", "moe_checkpoint", "evaluation"}
