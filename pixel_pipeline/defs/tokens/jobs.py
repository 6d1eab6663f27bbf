"""The job that prepares data for training."""

import dagster as dg

prepare_data = dg.define_asset_job(
    "prepare_data",
    selection=dg.AssetSelection.assets(
        "raw_inventory", "conversations", "curated", "dataset_registry", "token_shards"
    ),
    description="Raw objects to token shards: list, convert every family, curate, register, tokenize.",
)
