"""Deletion of files that no recent version needs, and of files left by killed writers."""

from dataclasses import dataclass
from datetime import timedelta

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.log import files_of
from pixel_pipeline.lake.tables.table import Table

VACUUM_AGE = timedelta(days=7)
# Readers and writers that run longer than this would lose files they need.
VACUUM_FLOOR = timedelta(hours=24)
PREFIXES = (keys.PROCESSED, keys.CURATED, keys.INTERNAL)


@dataclass(frozen=True)
class Vacuumed:
    """Files and bytes that a vacuum deleted, or would delete, from one table."""

    table: str
    files: int
    bytes: int


def vacuum(
    table: Table, *, older_than: timedelta = VACUUM_AGE, dry_run: bool = True, floor: timedelta = VACUUM_FLOOR
) -> Vacuumed:
    """Delete files that only versions superseded for longer than an age need, and uncommitted files of that age.

    Versions that need such a file can no longer be read. The log is checkpointed, and entries older than 30 days are
    deleted. Makes no commit.

    Args:
        older_than: Minimum age of deleted files, since they were written and since they were superseded.
        dry_run: Count without deleting.
        floor: Lowest age accepted. Lower it only if no other process uses the table.

    Raises:
        PixelError: an age below the floor.
        TableMissingError: there is no table.
    """
    if older_than < floor:
        raise PixelError(
            f"A vacuum of files older than {older_than} is refused; the minimum is {floor}.",
            hint="Readers of older versions and running writers would lose their files.",
        )
    # Listed before the log is read, which then knows every listed file that was committed meanwhile.
    listed = list(table.lake.data.list(table.key))
    delta = table.open()
    with table.log.translated("vacuum"):
        unneeded = delta.vacuum(
            # Whole hours, rounded up. We delete files ourselves because delta-rs's vacuum also writes a commit.
            retention_hours=-int(-older_than.total_seconds() // 3600),
            dry_run=True,
            enforce_retention_duration=False,
            full=True,
        )
    # In case delta-rs decodes a path with odd characters differently, files in use are excluded once more.
    paths = {f"{table.key}/{path}" for path in {*unneeded} - {path for path, _ in files_of(delta)}}
    # Files of a table in a sub-folder do not belong to this one.
    inner = {item.key.split("_delta_log/")[0] for item in listed if "/_delta_log/" in item.key} - {
        f"{table.key}/"
    }
    gone = [item for item in listed if item.key in paths and not item.key.startswith(tuple(inner))]
    if not dry_run:
        table.lake.data.delete(item.key for item in gone)
        with table.log.translated("checkpoint"):
            delta.create_checkpoint()
            delta.cleanup_metadata()
    return Vacuumed(table=table.key, files=len(gone), bytes=sum(item.size for item in gone))


def vacuum_all(lake: Lake, *, older_than: timedelta = VACUUM_AGE, dry_run: bool = True) -> list[Vacuumed]:
    """Vacuum every table of the lake, sorted by key."""
    found = {
        item.key.split("/_delta_log/")[0]
        for prefix in PREFIXES
        for item in lake.data.list(prefix)
        if "/_delta_log/" in item.key
    }
    return [vacuum(Table(lake, key), older_than=older_than, dry_run=dry_run) for key in sorted(found)]
