"""The job that syncs the Drive."""

import dagster as dg

sync_raw = dg.define_asset_job(
    "sync_raw",
    selection=dg.AssetSelection.assets("gdrive_sync", "sync_report", "raw_inventory"),
    description="Copy the Drive to the raw tier and list it.",
)
