"""Sync the Drive into the raw tier: copy, compare, report every file."""

from datetime import UTC, datetime

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.sync.copy import Report, copy, no_report
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.rclone import open_rclone, reject_inline_options, remote_path
from pixel_pipeline.sync.report import SyncReport, build_report, save_report
from pixel_pipeline.sync.verify import Verification, verify


def sync_drive(
    source: str,
    *,
    lake: Lake,
    options: SyncOptions,
    report: Report = no_report,
    dry_run: bool = False,
) -> SyncReport:
    """Copy new and changed files from the source to `gdrive/raw`, and compare the two.

    A file that fails does not stop the others; the report names it. The report is stored in the lake, after a failed sync too.
    A dry run copies nothing, compares nothing and stores no report.

    Args:
        source: A configured rclone remote (`gdrive:Team/Data`) or a folder.
        report: Receives rclone's statistics about once a second.

    Raises:
        SyncError: the source does not exist or cannot be read; TransientSyncError if a retry may succeed.
        PixelError: the lake is unreachable or denies access.
    """
    reject_inline_options(source)
    # Reports a wrong endpoint, key or bucket within a second; rclone retries for a minute and names none of them.
    lake.data.check()
    started = datetime.now(UTC)
    destination, shown = remote_path(lake, keys.RAW), lake.data.uri(keys.RAW)
    with open_rclone(lake, options) as rclone:
        outcome = copy(rclone, source, destination, options=options, report=report, dry_run=dry_run)
        verification = Verification()
        if outcome.fault is None and not dry_run:
            verification = verify(rclone, source, destination, method=options.verify, report=report)
    result = build_report(outcome, verification, source=source, destination=shown, started=started)
    if not dry_run:
        save_report(result, lake)
    outcome.raise_fault(source=source, destination=shown)
    return result
