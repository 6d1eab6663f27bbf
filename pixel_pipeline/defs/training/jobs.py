"""The jobs that train and promote."""

import dagster as dg

from pixel_pipeline.defs.training.config import TrainingOptions

train_moe = dg.define_asset_job(
    "train_moe",
    selection=dg.AssetSelection.assets("moe_checkpoint", "evaluation"),
    # Lists the options in the Launchpad. Null takes the setting of the environment.
    config={"ops": {"moe_checkpoint": {"config": dict.fromkeys(TrainingOptions.model_fields)}}},
    description="Train on the current token shards and evaluate the checkpoint. The Launchpad lists the options.",
)

promote_model = dg.define_asset_job(
    "promote_model",
    selection=dg.AssetSelection.assets("promoted_model"),
    config={"ops": {"promoted_model": {"config": {"checkpoint": "latest"}}}},
    description="Promote a checkpoint, by default the newest, if all gates hold.",
)
