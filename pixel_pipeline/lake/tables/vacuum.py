"""Removal of files that no version of the last days needs, and of what killed writers left behind."""

from dataclasses import dataclass
from datetime import timedelta

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.log import files_of
from pixel_pipeline.lake.tables.table import Table

VACUUM_AGE = timedelta(days=7)
# Readers and writers that take longer than this would lose files under their hands.
VACUUM_FLOOR = timedelta(hours=24)
PREFIXES = (keys.PROCESSED, keys.CURATED, keys.INTERNAL)


@dataclass(frozen=True)
class Vacuumed:
    """What a vacuum deleted of one table, or would have: how many files, of how many bytes."""

    table: str
    files: int
    bytes: int


def vacuum(
    table: Table, *, older_than: timedelta = VACUUM_AGE, dry_run: bool = True, floor: timedelta = VACUUM_FLOOR
) -> Vacuumed:
    """Delete files that only versions superseded for longer than an age need, and uncommitted ones of that age.

    Versions that need such a file can no longer be read. The log is checkpointed, and its entries are dropped once they
    are 30 days old. No commit is made.

    Args:
        older_than: A file is kept for at least so long after it was written, and after it was superseded.
        dry_run: Count, and delete nothing.
        floor: Least age that is accepted. Lower it only where nobody else uses the table.

    Raises:
        PixelError: an age below the floor.
        TableMissingError: there is no table.
    """
    if older_than < floor:
        raise PixelError(
            f"A vacuum of files no older than {older_than} is refused; {floor} is the least.",
            hint="Readers of older versions and running writers would lose their files.",
        )
    # Listed first: what a writer commits meanwhile is then known to the log.
    listed = list(table.lake.data.list(table.key))
    delta = table.open()
    with table.log.translated("vacuum"):
        unneeded = delta.vacuum(
            # Whole hours, rounded up. Ours is the deleting: theirs would commit, and hide the last writer's note.
            retention_hours=-int(-older_than.total_seconds() // 3600),
            dry_run=True,
            enforce_retention_duration=False,
            full=True,
        )
    # Belt and braces: whatever is made of odd characters in a path, no file in use is ever among them.
    paths = {f"{table.key}/{path}" for path in {*unneeded} - {path for path, _ in files_of(delta)}}
    # A table in a folder of this one is none of its files.
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
