"""Copy local files into the raw tier."""

from dataclasses import dataclass
from pathlib import Path

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.object_keys import checked_key
from pixel_pipeline.sync.copy import Report, copy, no_report
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.rclone import SyncError, open_rclone, remote_path


@dataclass(frozen=True)
class CopyReport:
    """Result of one copy. Sizes in bytes; `checked` counts all compared objects, including unchanged ones."""

    source: str
    destination: str
    copied: int
    copied_bytes: int
    checked: int


def copy_to_lake(
    source: str | Path,
    *,
    lake: Lake,
    prefix: str,
    report: Report = no_report,
    options: SyncOptions | None = None,
) -> CopyReport:
    """Copy a folder or a file into the data bucket under `prefix`.

    Objects with the source's size and modification time are left alone, so a second copy transfers nothing.

    Args:
        report: Receives rclone's statistics about once a second.

    Raises:
        KeyNameError: `prefix` cannot be a key.
        SyncError: the source does not exist, or a file could not be copied.
        PixelError: the lake is unreachable or denies access.
    """
    checked_key(prefix)
    # Reports a wrong endpoint, key or bucket within a second; rclone retries for a minute and names none of them.
    lake.data.check()
    options = options or SyncOptions()
    with open_rclone(lake, options) as rclone:
        outcome = copy(rclone, str(source), remote_path(lake, prefix), options=options, report=report)
    destination = lake.data.uri(prefix)
    outcome.raise_fault(source=str(source), destination=destination)
    if outcome.failed:
        names = ", ".join(f"{name} ({reason})" for name, reason in sorted(outcome.failed.items())[:5])
        raise SyncError(
            f"{len(outcome.failed):,} files could not be copied from {source} to {destination}: {names}.",
            hint="All other files arrived; run it again to copy the rest.",
        )
    arrived = outcome.copied | outcome.replaced
    return CopyReport(
        source=str(source),
        destination=destination,
        copied=len(arrived),
        copied_bytes=sum(max(0, size) for size in arrived.values()),
        checked=len(arrived) + len(outcome.unchanged),
    )
