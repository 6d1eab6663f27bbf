"""The Drive into the raw tier: copied, compared, and told file by file."""

from datetime import UTC, datetime

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.sync.copy import Report, copy, no_report
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.rclone import open_rclone, remote_path, require_nameable
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
    """Copy what is new or changed in the source to `gdrive/raw`, and compare the two.

    What cannot be copied keeps nothing else from arriving: it is in the report, which lies in the lake afterwards, after a
    failed sync as well. A dry run copies nothing, compares nothing and leaves no report.

    Args:
        source: A configured rclone remote (`gdrive:Team/Data`) or a folder.
        report: Gets rclone's statistics about once a second.

    Raises:
        SyncError: the source cannot be read, or does not exist; TransientSyncError where that may pass.
        PixelError: the lake itself cannot be reached or refuses.
    """
    require_nameable(source)
    # Tells of a wrong endpoint, key or bucket in a second; rclone tries for a minute and names none of them.
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
