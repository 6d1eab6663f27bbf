"""The jobs that train and promote."""

import dagster as dg

train_moe = dg.define_asset_job(
    "train_moe",
    selection=dg.AssetSelection.assets("moe_checkpoint", "evaluation"),
    description="Train on the current token shards and evaluate the checkpoint. The Launchpad shows the options.",
)

promote_model = dg.define_asset_job(
    "promote_model",
    selection=dg.AssetSelection.assets("promoted_model"),
    description="Promote a checkpoint, by default the newest, if all gates hold.",
)
