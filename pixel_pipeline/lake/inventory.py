"""The inventory of the raw tiers: its versions, and what changed from one to the next.

Two Delta tables. `_pixel/inventory` holds what lies in raw, one commit for each state that differs. `_pixel/inventory_changes`
grows by one commit for each of these. The inventory is committed first. A writer that is killed between the two leaves a
commit without its changes, and the next one records them before anything else: changes come late, or twice, never not at all.
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
"""One row an object that was `added`, `changed` (size or ETag) or `removed`.

`inventory_version` is the Delta version of `_pixel/inventory` that has the change; sizes in bytes. What an object was before is
null for an added one, what it is for a removed one.
"""

CHANGES_AGE = timedelta(days=90)
# Each inventory is a whole table: superseded ones are cleared away long before they fill the bucket.
COMMITS_BETWEEN_CLEANING = 50
_RECORDED = "pixel.inventory"

Families = Callable[[pa.ChunkedArray], pa.ChunkedArray]
"""Names the family of each key."""


@dataclass(frozen=True)
class Update:
    """What became of a listing.

    Attributes:
        version: Digest of the objects (`inventory_version`).
        delta_version: Commit of `_pixel/inventory` that holds them.
        unchanged: The inventory held them already.
        changes: Objects added, changed and removed, as now recorded; empty where nothing changed.
    """

    version: str
    delta_version: int
    unchanged: bool
    changes: dict[str, int]


def update_inventory(lake: Lake, objects: pa.Table, *, families: Families) -> Update:
    """Make a listing the inventory, and record what that changes.

    Args:
        objects: Table of INVENTORY_SCHEMA, sorted by key.
        families: Names the families of the changed keys.
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
    """Digest (32 hex digits) of keys, sizes and ETags. A copy that only touches times leaves it as it is.

    Args:
        objects: Table of INVENTORY_SCHEMA, sorted by key; its chunks make no difference.
    """
    digest = hashlib.sha256()
    for name in ("key", "etag"):
        lengths, characters = hashlib.sha256(), hashlib.sha256()
        for chunk in objects[name].chunks:
            # Lengths and characters apart, so that no two columns of strings have the same bytes.
            lengths.update(pc.binary_length(chunk).to_numpy(zero_copy_only=False).astype("<i4").tobytes())
            characters.update(_characters(chunk))
        digest.update(lengths.digest() + characters.digest())
    for chunk in objects["size"].chunks:
        digest.update(chunk.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def differences(before: pa.Table, after: pa.Table) -> pa.Table:
    """What changed between two inventories: the columns of CHANGES_SCHEMA from `change` on, sorted by kind and key.

    An object changed if its size or ETag did. The time of its last write alone says nothing: a copy may touch it.
    """
    position = pc.index_in(after["key"], value_set=before["key"])
    was = before.select(["size", "etag"]).take(position)
    # Null where there is nothing to compare with.
    same = pc.and_(pc.equal(after["size"], was["size"]), pc.equal(after["etag"], was["etag"]))
    differs = pc.invert(pc.fill_null(same, True))
    is_gone = np.ones(before.num_rows, dtype=bool)
    is_gone[position.drop_null().to_numpy()] = False
    removed = before.filter(pa.array(is_gone))
    return pa.concat_tables(
        [
            _kind("added", after.filter(pc.is_null(position)), was=None),
            _kind("changed", after.filter(differs), was=was.filter(differs)),
            _kind("removed", removed.select(["key"]), was=removed),
        ]
    )


@dataclass(frozen=True)
class Position:
    """A place in the log of changes: all up to it has been read. `table` is the log's own id: it may be made anew."""

    table: str
    version: int


def newest_position(lake: Lake) -> Position:
    """The end of the log of changes. Raises TableMissingError where no inventory was ever taken."""
    log = Table(lake, keys.INVENTORY_CHANGES).open()
    return Position(table=str(log.metadata().id), version=int(log.version()))


def touched_since(lake: Lake, position: Position) -> dict[str, datetime]:
    """Families with changes after a position, each with the time its last one was noticed. Costs what changed.

    Raises:
        TableMissingError: no inventory was ever taken.
        VersionGoneError: the log is another one, or does not reach back so far.
    """
    log = Table(lake, keys.INVENTORY_CHANGES)
    if newest_position(lake).table != position.table:
        raise VersionGoneError(f"{log.uri} was made anew since it was last read.")
    changes = log.added_since(position.version, columns=["family", "noticed_at"])
    touched = changes.group_by("family").aggregate([("noticed_at", "max")]).sort_by("family")
    return dict(zip(touched["family"].to_pylist(), touched["noticed_at_max"].to_pylist(), strict=True))


def clean(lake: Lake) -> None:
    """Drop changes older than CHANGES_AGE, and files of both tables that no version of the last days needs."""
    log = Table(lake, keys.INVENTORY_CHANGES)
    log.open().delete(f"noticed_at < '{datetime.now(UTC) - CHANGES_AGE:%Y-%m-%dT%H:%M:%S.%fZ}'")
    for table in (log, Table(lake, keys.INVENTORY)):
        vacuum(table, dry_run=False)


def _record_changes(lake: Lake, *, families: Families, newest: pa.Table | None = None) -> Counter[str]:
    """Bring the log of changes up to the newest inventory, version by version; returns how many of each kind.

    Args:
        newest: The newest inventory, where it is at hand.
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
        # Nothing was ever recorded of this table: all that lies there is new.
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
    """The last version of an inventory table that the log knows of."""
    noted_table, _, version = log.note().get(_RECORDED, "").partition(":")
    return int(version) if noted_table == table else None


def _rows(inventory: Table, version: int) -> pa.Table:
    """An older inventory; nothing where it was vacuumed, so that what came after it counts as new."""
    try:
        return inventory.dataset(version=version).to_table()
    except VersionGoneError:
        return INVENTORY_SCHEMA.empty_table()


def _entry(found: pa.Table, *, version: int, families: pa.ChunkedArray) -> pa.Table:
    """Differences as rows of CHANGES_SCHEMA."""
    rows = found.num_rows
    columns = {
        "inventory_version": pa.repeat(pa.scalar(version, pa.int64()), rows),
        "noticed_at": pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC")), rows),
        "family": families,
        **{name: found[name] for name in found.column_names},
    }
    return pa.table(columns).cast(CHANGES_SCHEMA)


def _kind(kind: str, is_now: pa.Table, *, was: pa.Table | None) -> pa.Table:
    rows = is_now.num_rows

    def column(table: pa.Table | None, name: str, type_: pa.DataType) -> pa.ChunkedArray | pa.Array:
        return table[name] if table is not None and name in table.column_names else pa.nulls(rows, type_)

    return pa.table(
        {
            "change": pa.repeat(kind, rows),
            "key": is_now["key"],
            "size": column(is_now, "size", pa.int64()),
            "etag": column(is_now, "etag", pa.string()),
            "last_modified": column(is_now, "last_modified", pa.timestamp("us", tz="UTC")),
            "previous_size": column(was, "size", pa.int64()),
            "previous_etag": column(was, "etag", pa.string()),
        }
    )


def _characters(strings: pa.Array) -> memoryview:
    """The bytes of all strings of an array, one after the other."""
    _, offsets, characters = strings.buffers()
    if characters is None:
        return memoryview(b"")
    bounds = np.frombuffer(offsets, dtype="<i4")[strings.offset : strings.offset + len(strings) + 1]
    return memoryview(characters)[bounds[0] : bounds[-1]]
