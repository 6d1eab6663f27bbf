"""Token shards to a checkpoint, and the checkpoint's evaluation. Both run in processes of their own, through Pipes.

This process never imports torch: the trainer may use all of the machine, crash or be killed without taking the run's
book-keeping with it, and tells its progress line by line.
"""

import os
import sys
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError

from pixel_pipeline.defs.assets.tokens import token_shards
from pixel_pipeline.defs.freshness import MOE_CHECKPOINT
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.settings import project_root
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key
from pixel_pipeline.training.checkpoints import CheckpointRef
from pixel_pipeline.training.configuring import training_config
from pixel_pipeline.training.revision import git_revision
from pixel_pipeline.training.session import Session

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
        )
    return _run(context, module="pixel_pipeline.training.train", extras=session.to_json())


@dg.asset(
    kinds={"pytorch", "matplotlib"},
    owners=["team:training"],
    pool="gpu",
    group_name="training",
    deps=[moe_checkpoint],
    description="Held-out perplexity by family and load of every expert, for the newest checkpoint.",
)
def evaluation(context: dg.AssetExecutionContext, lake: LakeResource) -> Any:
    """Evaluate in a process of its own."""
    with readable_failure(context):
        store = lake.open()
        manifest_key = current_manifest_key(store.data)
        checkpoint = CheckpointRef.resolve(store, "latest").uri(store)
    return _run(
        context,
        module="pixel_pipeline.training.evaluate",
        extras={"checkpoint": checkpoint, "manifest_key": manifest_key},
    )


def _run(context: dg.AssetExecutionContext, *, module: str, extras: dict[str, Any]) -> Any:
    # stdout and stderr are the run's own, so that what a library prints is in the run's captured logs.
    client = dg.PipesSubprocessClient(
        env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"},
        cwd=str(project_root()),
        termination_timeout_seconds=TERMINATION_TIMEOUT_SECONDS,
    )
    try:
        invocation = client.run(context=context, command=[sys.executable, "-m", module], extras=extras)
    except DagsterPipesExecutionError as error:
        # The process has told its own error as a log line; Pipes adds the exit code alone.
        raise dg.Failure(description=f"{module.rsplit('.', 1)[1]}: {error}", allow_retries=False) from None
    return invocation.get_materialize_result()
