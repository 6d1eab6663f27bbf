"""Everything on the Drive has arrived."""

import dagster as dg

from pixel_pipeline.defs.assets.sync import gdrive_sync, problems_table
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.sync.report import load_report


@dg.asset_check(
    asset=gdrive_sync,
    description=(
        "Every file of the Drive lies in raw as it is there, by the last sync and its comparison of sizes and hashes. It does "
        "not block: what has arrived is listed and converted."
    ),
)
def complete(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """Name every file that did not arrive, and why."""
    with readable_failure(context):
        report = load_report(lake.open())
    return dg.AssetCheckResult(
        passed=report.complete,
        severity=dg.AssetCheckSeverity.ERROR,
        description=report.verdict(),
        metadata={"problems": problems_table(report), "reasons": dict(report.reasons())},
    )
