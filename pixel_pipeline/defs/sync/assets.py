"""`gdrive_sync` copies the Drive to the raw tier; `sync_report` is a table of what happened to each file."""

from typing import Any

import dagster as dg

from pixel_pipeline.defs import freshness, metadata
from pixel_pipeline.defs.columns import SYNC_REPORT_COLUMNS, column_schema
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.lake import keys
from pixel_pipeline.sync.drive import sync_drive
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.progress import ProgressLines
from pixel_pipeline.sync.report import SYNC_REPORT_SCHEMA, SyncReport, load_report

SHOWN_PROBLEMS = 50
# If the Drive or the lake cannot be reached at all. The sync itself tries failed files again.
RETRIES, RETRY_SECONDS = 3, 30.0


@dg.asset(
    kinds={"googledrive", "s3"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="lake",
    code_version="1",
    freshness_policy=freshness.SYNC,
    description=(
        "Copies the Drive to `gdrive/raw` with rclone and compares the two. Nothing is ever deleted from raw. A file that cannot be "
        "copied does not stop the others; the check `complete` names it."
    ),
)
def gdrive_sync(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Copy new and changed files."""
    with readable_failure(context, retries=RETRIES, retry_seconds=RETRY_SECONDS):
        settings = lake.settings()
        report = sync_drive(
            settings.drive_source,
            lake=lake.open(),
            options=SyncOptions.of(settings),
            report=ProgressLines(context.log.info),
        )
    counts = report.counts()
    context.log.info(
        f"{counts['copied'] + counts['replaced']:,} objects copied ({metadata.size(report.copied_bytes())}), "
        f"{report.compared():,} compared"
    )
    return dg.MaterializeResult(metadata=_facts(report))


@dg.asset(
    kinds={"s3", "deltalake"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="lake",
    code_version="1",
    freshness_policy=freshness.SYNC,
    deps=["gdrive_sync"],
    metadata={
        "table": keys.SYNC_REPORT,
        "dagster/column_schema": column_schema(SYNC_REPORT_SCHEMA, SYNC_REPORT_COLUMNS),
    },
    description="The last sync, one row per file: copied, replaced, unchanged, kept in raw, skipped or failed, and the reason.",
)
def sync_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Store the report of the last sync as a table."""
    with readable_failure(context):
        report = load_report(lake.open())
    context.log.info(metadata.counts(report.counts()))
    return dg.MaterializeResult(
        value=report.rows, metadata=_facts(report) | {"problems": problems_table(report)}
    )


def problems_table(report: SyncReport) -> dg.MetadataValue:
    """The first files that did not arrive or differ from their source."""
    rows = report.problems().select(["path", "action", "reason"]).slice(0, SHOWN_PROBLEMS)
    return metadata.table(rows.to_pylist())


def _facts(report: SyncReport) -> dict[str, Any]:
    counts = report.counts()
    return {
        "verdict": report.verdict(),
        "source": report.source,
        "uri": dg.MetadataValue.path(report.destination),
        **{
            action: counts[action]
            for action in ("copied", "replaced", "unchanged", "kept", "skipped", "failed", "unverified")
        },
        "copied (MB)": metadata.megabytes(report.copied_bytes()),
        "duration (s)": round(report.seconds, 1),
    }
