"""The jobs that people start."""

import dagster as dg

from pixel_pipeline.defs.assets import conversations, curation, inventory, registry, sync, tokens, training

sync_raw = dg.define_asset_job(
    "sync_raw",
    selection=dg.AssetSelection.assets(sync.gdrive_sync, sync.sync_report, inventory.raw_inventory),
    description="Copy the Drive into the raw tier and list it.",
)

refresh_inventory = dg.define_asset_job(
    "refresh_inventory",
    selection=dg.AssetSelection.assets(inventory.raw_inventory),
    description="List the raw tiers, and note what changed there.",
)

prepare_data = dg.define_asset_job(
    "prepare_data",
    selection=dg.AssetSelection.assets(
        inventory.raw_inventory,
        conversations.conversations,
        curation.curated,
        registry.dataset_registry,
        tokens.token_shards,
    ),
    description="Raw objects to token shards: convert every family, curate, register, tokenize.",
)

train_moe = dg.define_asset_job(
    "train_moe",
    selection=dg.AssetSelection.assets(training.moe_checkpoint, training.evaluation),
    description="Train on the current token shards and evaluate the checkpoint.",
)

promote_model = dg.define_asset_job(
    "promote_model",
    selection=dg.AssetSelection.assets(training.promoted_model),
    description="Let a checkpoint, by default the newest, be the one that is used, if all gates hold.",
)
