"""The Drive, copied into the raw tier, and what that did file by file."""

from typing import Any

import dagster as dg

from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.freshness import GDRIVE_SYNC
from pixel_pipeline.defs.io_manager import column_schema
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.lake import keys
from pixel_pipeline.sync.drive import sync_drive
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.progress import ProgressLines
from pixel_pipeline.sync.report import SYNC_REPORT_SCHEMA, SyncReport, load_report

SHOWN_PROBLEMS = 50


@dg.asset(
    kinds={"googledrive", "s3"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="lake",
    freshness_policy=GDRIVE_SYNC,
    # For a Drive or a lake that cannot be reached at all. Files that fail are tried again within the sync.
    retry_policy=dg.RetryPolicy(
        max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
    ),
    description=(
        "Copies the Drive into `gdrive/raw` with rclone and compares the two. Nothing is ever deleted from raw. A file that "
        "cannot be copied keeps no other from arriving; the check `complete` names it."
    ),
)
def gdrive_sync(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Copy what is new or changed on the Drive."""
    with readable_failure(context):
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
    deps=[gdrive_sync],
    metadata={"table": keys.SYNC_REPORT, "dagster/column_schema": column_schema(SYNC_REPORT_SCHEMA)},
    description="The last sync, one row a file: copied, replaced, unchanged, kept in raw, skipped, failed, and why.",
)
def sync_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Make a table of the last sync."""
    with readable_failure(context):
        report = load_report(lake.open())
    context.log.info(metadata.counts(report.counts()))
    return dg.MaterializeResult(
        value=report.rows, metadata=_facts(report) | {"problems": problems_table(report)}
    )


def problems_table(report: SyncReport) -> dg.MetadataValue:
    """The first files that did not arrive, or not as they are in the source."""
    rows = report.problems().select(["path", "action", "reason"]).slice(0, SHOWN_PROBLEMS)
    return metadata.table(rows.to_pylist())


def _facts(report: SyncReport) -> dict[str, Any]:
    counts = report.counts()
    return {
        "source": report.source,
        "uri": dg.MetadataValue.path(report.destination),
        **{
            action: counts[action]
            for action in ("copied", "replaced", "unchanged", "kept", "skipped", "failed", "unverified")
        },
        "copied_bytes": report.copied_bytes(),
        "seconds": report.seconds,
        "verdict": report.verdict(),
    }
