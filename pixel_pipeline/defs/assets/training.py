"""Token shards to a checkpoint, its evaluation, and its promotion. Each runs in a process of its own, through Pipes.

This process never imports torch: the trainer may use all of the machine, crash or be killed without taking the run's
book-keeping with it, and tells its progress line by line.
"""

from collections.abc import Iterator
import os
import sys
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from dagster._core.pipes.client import PipesClientCompletedInvocation
from pydantic import Field

from pixel_pipeline.defs.assets.tokens import token_shards
from pixel_pipeline.defs.checks.promotion import PROMOTION_GATES, gate_result
from pixel_pipeline.defs.freshness import MOE_CHECKPOINT
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.settings import project_root
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.config.resolve import training_config
from pixel_pipeline.training.planning.session import Session
from pixel_pipeline.training.runtime.revision import git_revision

# The trainer finishes its step and stores a last checkpoint before it goes.
TERMINATION_TIMEOUT_SECONDS = 120.0
EXIT_INTERRUPTED = 130


@dg.asset(
    kinds={"pytorch", "safetensors"},
    owners=["team:training"],
    pool="gpu",
    group_name="training",
    deps=[token_shards],
    freshness_policy=MOE_CHECKPOINT,
    description=(
        "A mixture-of-experts checkpoint, trained with Lightning from the current token shards: safetensors in the "
        "checkpoint bucket, loadable by plain transformers; or adapters on PIXEL_BASE_MODEL. Unchanged input trains nothing; "
        "a run that was interrupted, or whose PIXEL_TRAINING_HOURS were over, goes on."
    ),
)
def moe_checkpoint(context: dg.AssetExecutionContext, lake: LakeResource) -> Any:
    """Train in a process of its own."""
    with readable_failure(context):
        store, settings = lake.open(), lake.settings()
        manifest_key = current_manifest_key(store.data)
        session = Session(
            config=training_config(settings, ShardManifest.load(store.data, manifest_key)),
            manifest_key=manifest_key,
            git_revision=git_revision(),
            hours=settings.training_hours,
            evaluates=True,
        )
    return _run(context, module="pixel_pipeline.training.train", extras=session.to_json())


@dg.asset(
    kinds={"pytorch", "matplotlib"},
    owners=["team:training"],
    pool="gpu",
    group_name="training",
    deps=[moe_checkpoint],
    description=(
        "The newest checkpoint on held-out conversations: perplexity by family and category, beside its base and a dense baseline; "
        "what every expert does; a safety smoke test (no safety assurance); samples and a model card in the lake."
    ),
)
def evaluation(context: dg.AssetExecutionContext, lake: LakeResource) -> Any:
    """Evaluate in a process of its own."""
    with readable_failure(context):
        store = lake.open()
        manifest_key = current_manifest_key(store.data)
        checkpoint = CheckpointRef.resolve(store, "latest").uri(store)
    return _run(
        context,
        module="pixel_pipeline.training.evaluation.evaluate",
        extras={"checkpoint": checkpoint, "manifest_key": manifest_key},
    )


class PromotionConfig(dg.Config):
    """Which checkpoint is to be promoted."""

    checkpoint: str = Field(
        "latest", description="`latest`, `best`, a run, `<run>/step-000200`, or an s3:// URI."
    )


@dg.asset(
    kinds={"pytorch", "safetensors"},
    owners=["team:training"],
    pool="gpu",
    group_name="training",
    deps=[evaluation],
    check_specs=PROMOTION_GATES,
    description=(
        "The checkpoint that is used: `promoted` wherever a checkpoint is named. A person promotes it, by the job `promote_model`; it is "
        "refused where it is worse than the one before, has dead experts, or is another model once it is exported."
    ),
)
def promoted_model(
    context: dg.AssetExecutionContext, lake: LakeResource, config: PromotionConfig
) -> Iterator[Any]:
    """Look at the gates in a process of its own; show each as a check, and fail where one does not hold."""
    with readable_failure(context):
        store = lake.open()
        manifest_key = current_manifest_key(store.data)
        checkpoint = CheckpointRef.resolve(store, config.checkpoint).uri(store)
    invocation = _invoke(
        context,
        module="pixel_pipeline.training.promotion",
        extras={"checkpoint": checkpoint, "manifest_key": manifest_key},
    )
    (told,) = invocation.get_custom_messages()
    yield from map(gate_result, told["gates"])
    if told["refusal"]:
        raise dg.Failure(description=told["refusal"], allow_retries=False)
    yield from invocation.get_results(implicit_materializations=False)


def _run(context: dg.AssetExecutionContext, *, module: str, extras: dict[str, Any]) -> Any:
    return _invoke(context, module=module, extras=extras).get_materialize_result()


def _invoke(
    context: dg.AssetExecutionContext, *, module: str, extras: dict[str, Any]
) -> PipesClientCompletedInvocation:
    # stdout and stderr are the run's own, so that what a library prints is in the run's captured logs.
    client = dg.PipesSubprocessClient(
        env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"},
        cwd=str(project_root()),
        termination_timeout_seconds=TERMINATION_TIMEOUT_SECONDS,
    )
    try:
        return client.run(context=context, command=[sys.executable, "-m", module], extras=extras)
    except DagsterPipesExecutionError as error:
        # The process has told its own error as a log line; Pipes adds the exit code alone.
        raise dg.Failure(description=f"{module.rsplit('.', 1)[1]}: {error}", allow_retries=False) from None
