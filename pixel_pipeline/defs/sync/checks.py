"""The check that the whole Drive has arrived."""

import dagster as dg

from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.defs.sync.assets import problems_table
from pixel_pipeline.sync.report import load_report


@dg.asset_check(
    asset="gdrive_sync",
    description=(
        "Every file of the Drive is in raw, unchanged, according to the last sync and its comparison of sizes and hashes. The check does "
        "not block: files that arrived are listed and converted."
    ),
)
def complete(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
    """Name every file that did not arrive, with the reason."""
    with readable_failure(context):
        report = load_report(lake.open())
    return dg.AssetCheckResult(
        passed=report.complete,
        severity=dg.AssetCheckSeverity.ERROR,
        description=report.verdict(),
        metadata={"problems": problems_table(report), "reasons": dict(report.reasons())},
    )
