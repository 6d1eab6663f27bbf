"""The job that lists the raw tiers."""

import dagster as dg

refresh_inventory = dg.define_asset_job(
    "refresh_inventory",
    selection=dg.AssetSelection.assets("raw_inventory"),
    description="List the raw tiers and record what changed.",
)
