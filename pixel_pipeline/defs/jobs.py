"""The jobs that people start."""

import dagster as dg

from pixel_pipeline.defs.assets import conversations, curation, inventory, registry, sync, tokens, training

sync_raw = dg.define_asset_job(
    "sync_raw",
    selection=dg.AssetSelection.assets(sync.gdrive_sync, inventory.raw_inventory),
    description="Copy the Drive into the raw tier and list it.",
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
