"""The job that prepares data for training."""

import dagster as dg

from pixel_pipeline.defs.tokens.config import TokenOptions

prepare_data = dg.define_asset_job(
    "prepare_data",
    selection=dg.AssetSelection.assets(
        "raw_inventory", "conversations", "curated", "dataset_registry", "token_shards"
    ),
    # Lists the options in the Launchpad. Null takes the setting of the environment.
    config={"ops": {"token_shards": {"config": dict.fromkeys(TokenOptions.model_fields)}}},
    description="Raw objects to token shards: list, convert every family, curate, register, tokenize.",
)
