"""The raw inventory, and when it counts as changed."""

from pixel_pipeline.lake.inventory import INVENTORY_SCHEMA, inventory_version, list_raw
from pixel_pipeline.lake.store import Lake


def test_lists_both_raw_tiers_and_nothing_else(lake: Lake) -> None:
    for key in (
        "gdrive/raw/B/2.json",
        "gdrive/raw/A/1.json",
        "acquired/x.csv",
        "gdrive/processed/a/b/x",
        "gdrive/rawer",
    ):
        lake.data.put(key, key.encode())
    inventory = list_raw(lake)
    assert inventory.schema == INVENTORY_SCHEMA
    assert inventory["key"].to_pylist() == ["acquired/x.csv", "gdrive/raw/A/1.json", "gdrive/raw/B/2.json"]
    assert inventory["size"].to_pylist() == [14, 19, 19]
    inventory.validate(full=True)


def test_an_empty_lake_has_an_empty_inventory(lake: Lake) -> None:
    inventory = list_raw(lake)
    assert inventory.num_rows == 0
    assert inventory.schema == INVENTORY_SCHEMA


def test_version_follows_content_not_times(lake: Lake) -> None:
    lake.data.put("gdrive/raw/a", b"one")
    inventory = list_raw(lake)
    version = inventory_version(inventory)
    # Touched: the same bytes again.
    lake.data.put("gdrive/raw/a", b"one")
    touched = list_raw(lake)
    assert inventory_version(touched) == version
    times = inventory.column("last_modified").to_pylist()
    later = touched.set_column(
        3, INVENTORY_SCHEMA.field(3), [[moment.replace(year=2001) for moment in times]]
    )
    assert inventory_version(later) == version
    # Same key and size, other bytes.
    lake.data.put("gdrive/raw/a", b"two")
    changed = inventory_version(list_raw(lake))
    assert changed != version
    # Another key.
    lake.data.put("gdrive/raw/b", b"")
    added = inventory_version(list_raw(lake))
    assert added not in {version, changed}
    lake.data.delete(["gdrive/raw/b"])
    assert inventory_version(list_raw(lake)) == changed
    # Moved: same bytes elsewhere.
    lake.data.put("gdrive/raw/c", b"two")
    lake.data.delete(["gdrive/raw/a"])
    assert inventory_version(list_raw(lake)) != changed
