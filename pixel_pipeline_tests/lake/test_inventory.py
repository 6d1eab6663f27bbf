"""The inventory and its changes: every change of the raw tiers is recorded, whenever a writer is killed."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
import os
import signal
from typing import Any
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pixel_pipeline.lake import embedded, inventory, keys
from pixel_pipeline.lake.inventory import (
    CHANGES_SCHEMA,
    Position,
    Update,
    differences,
    inventory_version,
    newest_position,
    touched_since,
    update_inventory,
)
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.s3.listing import INVENTORY_SCHEMA
from pixel_pipeline.lake.tables.table import Table, TableMissingError, VersionGoneError
from pixel_pipeline.lake.tables.vacuum import vacuum
from pixel_pipeline.settings import Settings, get_settings
from pixel_pipeline_tests.children import Child, preload
from pixel_pipeline_tests.faults import Fault, FaultProxy

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NONE = {"added": 0, "changed": 0, "removed": 0}


def objects_of(contents: dict[str, tuple[int, str]], *, at: datetime = NOON) -> pa.Table:
    """An inventory of these keys, sizes and ETags."""
    rows = [
        {"key": key, "size": size, "etag": etag, "last_modified": at}
        for key, (size, etag) in sorted(contents.items())
    ]
    return pa.Table.from_pylist(rows, schema=INVENTORY_SCHEMA)


def first_folder(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Families of these tests: the folder below `gdrive/raw`."""
    return pc.list_element(pc.split_pattern(names, "/"), 2) if len(names) else names


def update(lake: Lake, contents: dict[str, tuple[int, str]], *, at: datetime = NOON) -> Update:
    return update_inventory(lake, objects_of(contents, at=at), families=first_folder)


def recorded(lake: Lake) -> list[tuple[int, str, str, str]]:
    """Inventory version, family, kind of change and key of all changes, in the order in which they were recorded."""
    names = ["inventory_version", "family", "change", "key"]
    rows = Table(lake, keys.INVENTORY_CHANGES).added_since(-1, columns=names).to_pylist()
    return sorted(tuple(row[name] for name in names) for row in rows)


CONTENTS = st.dictionaries(
    st.text(alphabet="ab/é", min_size=1, max_size=3),
    st.tuples(st.integers(0, 2), st.sampled_from(["x", "y", "xy", ""])),
    max_size=6,
)


@given(CONTENTS, CONTENTS)
def test_differences_are_those_of_the_two(before: dict[str, Any], after: dict[str, Any]) -> None:
    found = differences(objects_of(before), objects_of(after))
    assert found.schema.names == CHANGES_SCHEMA.names[3:]
    expected = [
        *((key, "added") for key in after.keys() - before.keys()),
        *((key, "removed") for key in before.keys() - after.keys()),
        *((key, "changed") for key in before.keys() & after.keys() if before[key] != after[key]),
    ]
    assert sorted((row["key"], row["change"]) for row in found.to_pylist()) == sorted(expected)
    for row in found.to_pylist():
        assert (row["size"], row["etag"]) == after.get(row["key"], (None, None))
        assert (row["previous_size"], row["previous_etag"]) == before.get(row["key"], (None, None))


@given(CONTENTS, CONTENTS)
def test_versions_are_equal_for_equal_objects(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = inventory_version(objects_of(one)) == inventory_version(objects_of(other))
    assert same == (one == other)


def test_versions_depend_on_where_one_key_ends_and_the_next_begins() -> None:
    one, other = (objects_of(dict.fromkeys(names, (1, "x"))) for names in (("a", "bb"), ("ab", "b")))
    assert inventory_version(one) != inventory_version(other)


@given(CONTENTS, st.lists(st.integers(0, 6)))
def test_versions_ignore_times_and_chunks(contents: dict[str, Any], cuts: list[int]) -> None:
    objects = objects_of(contents)
    bounds = [0, *sorted(cut for cut in cuts if cut <= objects.num_rows), objects.num_rows]
    chunks = [objects[start:end] for start, end in pairwise(bounds)]
    touched = pa.concat_tables([objects_of(contents, at=NOON + timedelta(days=1)).slice(0, 0), *chunks])
    assert inventory_version(touched) == inventory_version(objects)
    assert inventory_version(objects_of(contents, at=NOON + timedelta(days=1))) == inventory_version(objects)


def test_version_follows_content_on_a_real_server(lake: Lake) -> None:
    lake.data.put("gdrive/raw/a", b"one")
    version = inventory_version(list_raw(lake).objects)
    lake.data.put("gdrive/raw/a", b"one")
    assert inventory_version(list_raw(lake).objects) == version
    lake.data.put("gdrive/raw/a", b"two")
    assert inventory_version(list_raw(lake).objects) != version


def test_every_change_is_recorded_once_with_its_family(lake: Lake) -> None:
    a, b, c = "gdrive/raw/A/1", "gdrive/raw/B/1", "gdrive/raw/C/1"
    first = update(lake, {a: (1, "x"), b: (1, "x")})
    assert (first.unchanged, first.changes) == (False, {"added": 2, "changed": 0, "removed": 0})
    # Same size and time, other bytes: only the ETag differs.
    second = update(lake, {a: (1, "y"), c: (0, "e")})
    assert second.changes == {"added": 1, "changed": 1, "removed": 1}
    assert Table(lake, keys.INVENTORY).dataset().to_table() == objects_of({a: (1, "y"), c: (0, "e")})
    assert recorded(lake) == [
        (0, "A", "added", a),
        (0, "B", "added", b),
        (1, "A", "changed", a),
        (1, "B", "removed", b),
        (1, "C", "added", c),
    ]


def test_an_unchanged_listing_commits_nothing(lake: Lake) -> None:
    first = update(lake, {"gdrive/raw/A/1": (1, "x")})
    again = update(lake, {"gdrive/raw/A/1": (1, "x")}, at=NOON + timedelta(hours=1))
    assert (again.unchanged, again.changes) == (True, NONE)
    assert (again.version, again.delta_version) == (first.version, first.delta_version) == (first.version, 0)
    assert newest_position(lake).version == 0


def test_a_reader_sees_the_families_touched_after_its_position(lake: Lake) -> None:
    with pytest.raises(TableMissingError):
        newest_position(lake)
    update(lake, {"gdrive/raw/A/1": (1, "x"), "gdrive/raw/B/1": (1, "x")})
    start = newest_position(lake)
    assert touched_since(lake, start) == {}
    state = {"gdrive/raw/A/1": (1, "x"), "gdrive/raw/B/1": (1, "z")}
    update(lake, state)
    # A is removed and comes back: the inventory is the same as before, and both changes are recorded.
    update(lake, {"gdrive/raw/B/1": (1, "z")})
    middle = newest_position(lake)
    update(lake, state)
    everything = touched_since(lake, start)
    assert [*everything] == ["A", "B"]
    assert [*touched_since(lake, middle)] == ["A"]
    assert touched_since(lake, middle)["A"] == everything["A"] > everything["B"]


def test_a_log_that_was_created_again_is_reported(lake: Lake) -> None:
    update(lake, {"gdrive/raw/A/1": (1, "x")})
    old = newest_position(lake)
    lake.data.delete([item.key for item in lake.data.list(keys.INVENTORY_CHANGES)])
    update(lake, {"gdrive/raw/A/1": (1, "x")})
    assert newest_position(lake) == Position(newest_position(lake).table, 0) != old
    with pytest.raises(VersionGoneError, match="created again"):
        touched_since(lake, old)
    # All present objects count as new, because the earlier changes are unknown.
    assert recorded(lake) == [(0, "A", "added", "gdrive/raw/A/1")]


def test_an_inventory_created_again_is_recorded_although_its_versions_restart(lake: Lake) -> None:
    for etag in ("x", "y", "z"):
        update(lake, {"gdrive/raw/A/1": (1, etag)})
    seen = newest_position(lake)
    lake.data.delete([item.key for item in lake.data.list(keys.INVENTORY)])
    update(lake, {"gdrive/raw/B/1": (1, "x")})
    assert [*touched_since(lake, seen)] == ["B"]


def test_unrecorded_commits_are_recorded_one_by_one(lake: Lake) -> None:
    """A change and its reversal: a conversion in between has to be repeated."""
    key = "gdrive/raw/A/1"
    update(lake, {key: (1, "x")})
    for etag in ("y", "x"):
        objects = objects_of({key: (1, etag)})
        Table(lake, keys.INVENTORY).overwrite(objects, note={"pixel.version": inventory_version(objects)})
    last = update(lake, {key: (1, "x")})
    assert (last.unchanged, last.changes) == (True, {"added": 0, "changed": 2, "removed": 0})
    assert [row[:3] for row in recorded(lake)] == [
        (0, "A", "added"),
        (1, "A", "changed"),
        (2, "A", "changed"),
    ]


WRITES = r"^(PUT|POST) "
preload(__name__)


def update_behind(state: str) -> None:
    """An update in the lake of the environment."""
    update(Lake.open(get_settings()), {"gdrive/raw/A/1": (1, state)})


def test_a_writer_killed_before_any_of_its_writes_loses_no_change(lake: Lake, settings: Settings) -> None:
    server = embedded.ensure_running(settings.home)
    update(lake, {"gdrive/raw/A/1": (1, "old")})
    writes = 0
    finished = False
    with FaultProxy(urlsplit(server.endpoint).port or 0) as proxy:
        environment = {
            **{name: os.environ[name] for name in ("PIXEL_HOME", "PIXEL_BUCKET", "PIXEL_CHECKPOINT_BUCKET")},
            "PIXEL_S3_ENDPOINT": proxy.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key.get_secret_value(),
            "PIXEL_S3_CONDITIONAL_WRITES": "on",
        }
        while not finished:
            seen = newest_position(lake)
            proxy.faults = [Fault("none", on=WRITES)] * writes + [Fault("hold", on=WRITES)]
            proxy.silent.clear()
            child = Child(update_behind, f"state {writes}", environment=environment)
            while child.process.is_alive() and not proxy.silent.wait(0.05):
                pass
            finished = not child.process.is_alive()
            child.process.kill()
            child.process.join()
            assert child.process.exitcode == (0 if finished else -signal.SIGKILL)
            # At every point, the next writer sees the change or finds it recorded.
            update(lake, {"gdrive/raw/A/1": (1, f"state {writes}")})
            assert [*touched_since(lake, seen)] == ["A"]
            writes += 1
    # A file and a commit of each table.
    assert writes - 1 == 4
    etags = Table(lake, keys.INVENTORY_CHANGES).added_since(-1, columns=["previous_etag", "etag"]).to_pylist()
    states = [None, "old", *(f"state {number}" for number in range(writes))]
    assert [tuple(row.values()) for row in etags] == [*pairwise(states)]


def test_old_changes_are_deleted_and_their_readers_get_an_error(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "COMMITS_BETWEEN_CLEANING", 3)
    update(lake, {"gdrive/raw/A/1": (1, "x")})
    start = newest_position(lake)
    update(lake, {"gdrive/raw/B/1": (1, "x")})
    assert Table(lake, keys.INVENTORY_CHANGES).dataset().count_rows() == 3
    monkeypatch.setattr(inventory, "CHANGES_AGE", timedelta(0))
    # The third commit cleans.
    update(lake, {"gdrive/raw/C/1": (1, "x")})
    log = Table(lake, keys.INVENTORY_CHANGES)
    assert log.dataset().count_rows() == 0
    # Until the files are vacuumed, a reader that is behind sees all changes.
    assert [*touched_since(lake, start)] == ["A", "B", "C"]
    vacuum(log, older_than=timedelta(0), floor=timedelta(0), dry_run=False)
    with pytest.raises(VersionGoneError):
        touched_since(lake, start)
    # The log continues.
    behind = newest_position(lake)
    update(lake, {"gdrive/raw/C/1": (1, "y")})
    assert [*touched_since(lake, behind)] == ["C"]
