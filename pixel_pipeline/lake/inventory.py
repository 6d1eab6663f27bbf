"""The inventory of the raw tiers: its versions, and the changes between them.

Two Delta tables: `_pixel/inventory` lists the raw objects, with one commit per different state, and `_pixel/inventory_changes`
grows by one commit for each of these. The inventory is committed first. If a writer is killed in between, the next one records
the missing changes before anything else. A change may be reported late or twice, but is never lost.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.listing import INVENTORY_SCHEMA
from pixel_pipeline.lake.tables.table import Table, TableMissingError, VersionGoneError
from pixel_pipeline.lake.tables.vacuum import vacuum

CHANGES_SCHEMA = pa.schema(
    [
        pa.field("inventory_version", pa.int64(), nullable=False),
        pa.field("noticed_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("change", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.timestamp("us", tz="UTC")),
        pa.field("previous_size", pa.int64()),
        pa.field("previous_etag", pa.string()),
    ]
)
"""One row per object that was `added`, `changed` (size or ETag) or `removed`.

`inventory_version` is the Delta version of `_pixel/inventory` with the change; sizes in bytes. Previous values are null for an
added object, current ones for a removed object.
"""

CHANGES_AGE = timedelta(days=90)
# Each inventory is a whole table; superseded ones are vacuumed before they fill the bucket.
COMMITS_BETWEEN_CLEANING = 50
_RECORDED = "pixel.inventory"

Families = Callable[[pa.ChunkedArray], pa.ChunkedArray]
"""Returns the family of each key."""


@dataclass(frozen=True)
class Update:
    """Result of `update_inventory`.

    Attributes:
        version: Digest of the objects (`inventory_version`).
        delta_version: Commit of `_pixel/inventory` with these objects.
        unchanged: The inventory had these objects already.
        changes: Number of objects added, changed and removed.
    """

    version: str
    delta_version: int
    unchanged: bool
    changes: dict[str, int]


def update_inventory(lake: Lake, objects: pa.Table, *, families: Families) -> Update:
    """Store a listing as the inventory and record the changes.

    Args:
        objects: Table of INVENTORY_SCHEMA, sorted by key.
        families: Returns the families of the changed keys.
    """
    table = Table(lake, keys.INVENTORY)
    changes = _record_changes(lake, families=families)
    version = inventory_version(objects)
    unchanged = table.note().get("pixel.version") == version
    if not unchanged:
        table.overwrite(objects, note={"pixel.version": version})
        changes += _record_changes(lake, families=families, newest=objects)
    delta_version = table.version()
    if not unchanged and (delta_version + 1) % COMMITS_BETWEEN_CLEANING == 0:
        clean(lake)
    return Update(
        version=version,
        delta_version=delta_version,
        unchanged=unchanged,
        changes={kind: changes[kind] for kind in ("added", "changed", "removed")},
    )


def inventory_version(objects: pa.Table) -> str:
    """Return a digest (32 hex digits) of keys, sizes and ETags, but not of times, which a copy may change.

    Args:
        objects: Table of INVENTORY_SCHEMA, sorted by key, in any chunks.
    """
    digest = hashlib.sha256()
    for name in ("key", "etag"):
        lengths, characters = hashlib.sha256(), hashlib.sha256()
        for chunk in objects[name].chunks:
            # Lengths and characters separately, so that different columns of strings never give the same bytes.
            lengths.update(pc.binary_length(chunk).to_numpy(zero_copy_only=False).astype("<i4").tobytes())
            characters.update(_characters(chunk))
        digest.update(lengths.digest() + characters.digest())
    for chunk in objects["size"].chunks:
        digest.update(chunk.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def differences(before: pa.Table, after: pa.Table) -> pa.Table:
    """Compare two inventories by size and ETag: the columns of CHANGES_SCHEMA from `change` on, sorted by kind and key."""
    position = pc.index_in(after["key"], value_set=before["key"])
    previous = before.select(["size", "etag"]).rename_columns(["previous_size", "previous_etag"])
    was = previous.take(position)
    # Null for added objects.
    same = pc.and_(
        pc.equal(after["size"], was["previous_size"]), pc.equal(after["etag"], was["previous_etag"])
    )
    both = after
    for name in was.column_names:
        both = both.append_column(name, was[name])
    is_gone = np.ones(before.num_rows, dtype=bool)
    is_gone[position.drop_null().to_numpy()] = False
    kinds = {
        "added": after.filter(pc.is_null(position)),
        "changed": both.filter(pc.invert(pc.fill_null(same, True))),
        "removed": previous.append_column("key", before["key"]).filter(pa.array(is_gone)),
    }
    rows = [table.append_column("change", pa.repeat(kind, len(table))) for kind, table in kinds.items()]
    return pa.concat_tables(rows, promote_options="default").select(CHANGES_SCHEMA.names[3:])


@dataclass(frozen=True)
class Position:
    """The last commit read of the log of changes. `table` is the log's id, which changes if it is created again."""

    table: str
    version: int


def newest_position(lake: Lake) -> Position:
    """Return the end of the log of changes. Raises TableMissingError before the first inventory."""
    log = Table(lake, keys.INVENTORY_CHANGES).open()
    return Position(table=str(log.metadata().id), version=int(log.version()))


def touched_since(lake: Lake, position: Position) -> dict[str, datetime]:
    """Return the families with changes after a position and the time of their last change. Reads only these changes.

    Raises:
        TableMissingError: there is no inventory yet.
        VersionGoneError: the log was created again, or no longer contains these changes.
    """
    log = Table(lake, keys.INVENTORY_CHANGES)
    if newest_position(lake).table != position.table:
        raise VersionGoneError(f"{log.uri} was created again since it was last read.")
    changes = log.added_since(position.version, columns=["family", "noticed_at"])
    touched = changes.group_by("family").aggregate([("noticed_at", "max")]).sort_by("family")
    return dict(zip(touched["family"].to_pylist(), touched["noticed_at_max"].to_pylist(), strict=True))


def clean(lake: Lake) -> None:
    """Delete changes older than CHANGES_AGE, and vacuum both tables."""
    log = Table(lake, keys.INVENTORY_CHANGES)
    log.open().delete(f"noticed_at < '{datetime.now(UTC) - CHANGES_AGE:%Y-%m-%dT%H:%M:%S.%fZ}'")
    for table in (log, Table(lake, keys.INVENTORY)):
        vacuum(table, dry_run=False)


def _record_changes(lake: Lake, *, families: Families, newest: pa.Table | None = None) -> Counter[str]:
    """Bring the log of changes up to the newest inventory, version by version. Returns the number of each kind.

    Args:
        newest: The newest inventory, if it is known.
    """
    total: Counter[str] = Counter()
    inventory, log = Table(lake, keys.INVENTORY), Table(lake, keys.INVENTORY_CHANGES)
    try:
        opened = inventory.open()
    except TableMissingError:
        return total
    table, current = str(opened.metadata().id), int(opened.version())
    recorded = _recorded(log, table=table)
    if recorded is None:
        # No change of this table was recorded yet: all its objects are new.
        recorded = current - 1
        before = INVENTORY_SCHEMA.empty_table()
    elif recorded < current:
        before = _rows(inventory, recorded)
    for version in range(recorded + 1, current + 1):
        after = newest if newest is not None and version == current else _rows(inventory, version)
        found = differences(before, after)
        total.update(
            {item["values"]: item["counts"] for item in pc.value_counts(found["change"]).to_pylist()}
        )
        log.append(
            _entry(found, version=version, families=families(found["key"])),
            note={_RECORDED: f"{table}:{version}"},
        )
        before = after
    return total


def _recorded(log: Table, *, table: str) -> int | None:
    """Return the last version of an inventory table whose changes are in the log."""
    noted_table, _, version = log.note().get(_RECORDED, "").partition(":")
    return int(version) if noted_table == table else None


def _rows(inventory: Table, version: int) -> pa.Table:
    """Read an older inventory. A vacuumed one is empty, so that all objects after it count as added."""
    try:
        return inventory.dataset(version=version).to_table()
    except VersionGoneError:
        return INVENTORY_SCHEMA.empty_table()


def _entry(found: pa.Table, *, version: int, families: pa.ChunkedArray) -> pa.Table:
    """Return differences as rows of CHANGES_SCHEMA."""
    rows = found.num_rows
    columns = {
        "inventory_version": pa.repeat(pa.scalar(version, pa.int64()), rows),
        "noticed_at": pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC")), rows),
        "family": families,
        **{name: found[name] for name in found.column_names},
    }
    return pa.table(columns).cast(CHANGES_SCHEMA)


def _characters(strings: pa.Array) -> memoryview:
    """Return the concatenated bytes of an array's strings."""
    _, offsets, characters = strings.buffers()
    if characters is None:
        return memoryview(b"")
    bounds = np.frombuffer(offsets, dtype="<i4")[strings.offset : strings.offset + len(strings) + 1]
    return memoryview(characters)[bounds[0] : bounds[-1]]
