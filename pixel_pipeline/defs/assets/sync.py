"""The Drive, copied into the raw tier."""

from typing import Any

import dagster as dg

from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.lake import keys
from pixel_pipeline.sync.rclone import copy_to_lake


@dg.asset(
    kinds={"googledrive", "s3"},
    owners=["team:data"],
    group_name="lake",
    description="Copies the Drive into `gdrive/raw` with rclone. Nothing is ever deleted from raw.",
)
def gdrive_sync(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Copy what is new or changed on the Drive."""
    with readable_failure(context):
        report = copy_to_lake(lake.settings().drive_source, lake=lake.open(), prefix=keys.RAW)
    context.log.info(
        f"{report.copied:,} objects copied ({metadata.size(report.copied_bytes)}), {report.checked:,} compared"
    )
    return dg.MaterializeResult(
        metadata={
            "source": report.source,
            "uri": dg.MetadataValue.path(report.destination),
            "copied": report.copied,
            "copied_bytes": report.copied_bytes,
            "compared": report.checked,
        }
    )
