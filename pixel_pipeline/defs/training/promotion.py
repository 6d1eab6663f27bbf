"""`promoted_model`: the checkpoint in use, after all gates held. Each gate is a check."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from pixel_pipeline.defs import freshness, metadata
from pixel_pipeline.defs.failures import fail_step, readable_failure
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.defs.training.config import PromotionOptions
from pixel_pipeline.defs.training.process import Pipes, run_module
from pixel_pipeline.training.checkpoints.queries import evaluation_shards
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.promotion.gates import GATES

ASSET = dg.AssetKey("promoted_model")


@dg.asset(
    kinds={"pytorch", "safetensors"},
    owners=["team:training"],
    pool="gpu",
    group_name="training",
    code_version="1",
    deps=["evaluation"],
    freshness_policy=freshness.PROMOTED,
    check_specs=[
        dg.AssetCheckSpec(name, asset=ASSET, blocking=True, description=description)
        for name, description in GATES.items()
    ],
    description=(
        "The checkpoint in use, which `promoted` names everywhere. A person promotes it with the job `promote_model`. A checkpoint is refused "
        "if it is worse than the promoted one, has dead experts, or changes when it is exported."
    ),
)
def promoted_model(
    context: dg.AssetExecutionContext, lake: LakeResource, pipes: Pipes, config: PromotionOptions
) -> Iterator[Any]:
    """Evaluate the gates in a process of its own, and fail unless all hold."""
    with readable_failure(context):
        store = lake.open()
        checkpoint = CheckpointRef.resolve(store, config.checkpoint)
        extras = {
            "checkpoint": checkpoint.uri(store),
            "manifest_key": evaluation_shards(store, checkpoint),
        }
    result = run_module(context, pipes, module="promotion", extras=extras)
    (outcome,) = result.messages
    yield from map(gate_result, outcome["gates"])
    if outcome["refusal"]:
        fail_step(context, outcome["refusal"], transient=False)
    yield result.materialization


def gate_result(gate: Mapping[str, Any]) -> dg.AssetCheckResult:
    """A gate, as the process reports it, as a check result."""
    return dg.AssetCheckResult(
        asset_key=ASSET,
        check_name=gate["name"],
        passed=gate["passed"],
        severity=dg.AssetCheckSeverity.ERROR,
        description=gate["description"],
        metadata=metadata.readable(gate["figures"]),
    )
