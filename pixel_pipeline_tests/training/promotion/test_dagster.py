"""The job `promote_model` in a real Dagster instance: gates are checks, and each that does not hold blocks."""

from collections.abc import Iterator

import dagster as dg
import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.promotion.gates import GATES
from pixel_pipeline_tests.defs.loaded import defs
from pixel_pipeline_tests.training.promotion.conftest import Changed, Train, enormous, without_work, worse


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def promote(instance: dg.DagsterInstance, ref: CheckpointRef) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("promote_model").execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {"promoted_model": {"config": {"checkpoint": ref.prefix}}}},
    )


def failed_gates(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert {*checks} == {*GATES}
    assert all(check.blocking for check in checks.values())
    return {name: str(check.description) for name, check in checks.items() if not check.passed}


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    return str(event.step_failure_data.user_failure_data.description)


@pytest.mark.parametrize(
    "closed",
    [
        {"export_verified"},
        # test_promote.py has these two without Dagster.
        pytest.param({"no_regression", "no_dead_expert"}, marks=pytest.mark.deep),
    ],
)
@pytest.mark.timeout(900)
def test_gates_are_checks_that_block(
    lake: Lake,
    adapted: TrainingConfig,
    trained: Train,
    changed: Changed,
    instance: dg.DagsterInstance,
    closed: set[str],
) -> None:
    good = trained(adapted, steps=12)
    result = promote(instance, good)
    assert result.success
    assert failed_gates(result) == {}
    (made,) = [event for event in result.all_events if event.event_type_value == "ASSET_MATERIALIZATION"]
    metadata = made.materialization.metadata
    assert metadata["checkpoint"].value == good.uri(lake)
    assert str(metadata["model card"].value).endswith("/README.md")
    assert CheckpointRef.resolve(lake, "promoted") == good

    for gate, change, why in (
        ("no_regression", worse, "Test loss"),
        ("no_dead_expert", without_work, "get hardly a token"),
        ("export_verified", enormous, "NOT the same model"),
    ):
        if gate not in closed:
            continue
        ref = changed(good, change.__name__, change)
        result = promote(instance, ref)
        assert not result.success
        failed = failed_gates(result)
        assert why in failed[gate]
        assert failure(result).startswith(f"{ref.uri(lake)} is not promoted. ")
        assert f"{gate}: " in failure(result)
        assert not [e for e in result.all_events if e.event_type_value == "ASSET_MATERIALIZATION"]
        assert CheckpointRef.resolve(lake, "promoted") == good
