"""Token shards to a checkpoint and its evaluation."""

from typing import Any

import dagster as dg

from pixel_pipeline.defs import freshness
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.defs.training.config import TrainingOptions
from pixel_pipeline.defs.training.process import Pipes, materialize
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.tokens.sources import find_shards
from pixel_pipeline.training.checkpoints.queries import evaluation_shards
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.config.resolve import training_config
from pixel_pipeline.training.evaluation.evaluate import RECIPE_VERSION as EVALUATION_RECIPE
from pixel_pipeline.training.planning.session import Session
from pixel_pipeline.training.runtime.identity import RECIPE_VERSION as MODEL_RECIPE
from pixel_pipeline.training.runtime.revision import git_revision


@dg.asset(
    kinds={"pytorch", "safetensors"},
    owners=["team:training"],
    pool="gpu",
    group_name="training",
    code_version=MODEL_RECIPE,
    deps=["token_shards"],
    freshness_policy=freshness.MODEL,
    description=(
        "A mixture-of-experts checkpoint trained with Lightning: safetensors in the checkpoint bucket that plain transformers loads, or "
        "adapters on a base model. Unchanged data and configuration train nothing. A run that was interrupted, or whose hours are over, "
        "continues. The Launchpad shows the options."
    ),
)
def moe_checkpoint(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    pipes: Pipes,
    config: TrainingOptions,
) -> dg.MaterializeResult[Any]:
    """Train in a process of its own."""
    with readable_failure(context):
        store, settings = lake.open(), config.applied(lake.settings())
        manifest_key = find_shards(
            store,
            settings,
            base=config.base_model,
            sequence_length=config.sequence_length,
            report=context.log.info,
        )
        session = Session(
            config=training_config(
                settings,
                ShardManifest.load(store.data, manifest_key),
                overrides={} if config.curriculum is None else {"curriculum": config.curriculum},
            ),
            manifest_key=manifest_key,
            git_revision=git_revision(),
            run=config.run,
            hours=settings.training_hours,
            evaluates=True,
        )
    return materialize(context, pipes, module="train", extras=session.to_json())


@dg.asset(
    kinds={"pytorch", "matplotlib"},
    owners=["team:training"],
    pool="gpu",
    group_name="training",
    code_version=EVALUATION_RECIPE,
    deps=["moe_checkpoint"],
    freshness_policy=freshness.MODEL,
    description=(
        "The newest checkpoint on held-out conversations: perplexity by family and category, compared with its base model and a dense "
        "baseline; the work of every expert; a safety smoke test, which is no safety assurance. Samples and a model card are in the lake."
    ),
)
def evaluation(
    context: dg.AssetExecutionContext, lake: LakeResource, pipes: Pipes
) -> dg.MaterializeResult[Any]:
    """Evaluate in a process of its own."""
    with readable_failure(context):
        store = lake.open()
        checkpoint = CheckpointRef.resolve(store, "latest")
        extras = {
            "checkpoint": checkpoint.uri(store),
            "manifest_key": evaluation_shards(store, checkpoint),
        }
    return materialize(context, pipes, module="evaluation.evaluate", extras=extras)
