"""A family's tables follow its raw objects: whole or not at all, once and not again, by however many workers."""

from typing import Any

import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.conversations import build
from pixel_pipeline.conversations.build import FamilyReport, convert_family, families_of, retract_families
from pixel_pipeline.conversations.families import FamilyConfig
from pixel_pipeline.conversations.schema import CONVERSATION_SCHEMA, LEDGER_SCHEMA, QUARANTINE_SCHEMA
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.errors import ObjectChangedError, ObjectNotFoundError
from pixel_pipeline.lake.listing import list_raw
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table
from pixel_pipeline_tests.conversations.convert import lines, sharegpt

CALM = "gdrive/raw/Calm"
WORK = "gdrive/raw/Work"
CALM_TABLE = keys.conversations_table(category="calm", dataset="calm")


@pytest.fixture
def raw(lake: Lake) -> Lake:
    """Two families: six objects with conversations, bad lines and no data at all."""
    for number in range(4):
        lake.data.put(
            f"{CALM}/{number}.jsonl",
            lines(sharegpt(f"Question {number}", "Answer"), b'{"broken', sharegpt(f"More {number}?", "Yes.")),
        )
    lake.data.put(f"{CALM}/picture.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
    lake.data.put(f"{WORK}/0.json", orjson.dumps([sharegpt("Tired", "Of what?"), {"odd": 1}]))
    return lake


def _convert(lake: Lake, *, workers: int = 1, inventory: pa.Table | None = None) -> dict[str, FamilyReport]:
    families = families_of(
        list_raw(lake).objects if inventory is None else inventory,
        config=FamilyConfig(),
        bucket=lake.data.name,
    )
    with LocalExecutor(workers=workers) as executor:
        return {
            family: convert_family(lake, rule=rule, objects=objects, executor=executor)
            for family, (rule, objects) in families.items()
        }


def _read(lake: Lake, key: str, *, order: tuple[str, ...] = ("id",)) -> pa.Table:
    return Table(lake, key).dataset().to_table().sort_by([(name, "ascending") for name in order])


def _versions(lake: Lake) -> dict[str, int]:
    return {key: Table(lake, key).version() for key in (CALM_TABLE, keys.QUARANTINE, keys.LEDGER)}


def _said(lake: Lake) -> set[str]:
    return {turns[0]["content"] for turns in _read(lake, CALM_TABLE)["messages"].to_pylist()}


def test_every_record_lies_in_a_table_and_in_the_report(raw: Lake) -> None:
    reports = _convert(raw)
    calm = reports["calm"]
    assert (calm.objects, calm.records_in, calm.records_out) == (5, 13, 8)
    assert calm.quarantined == {"bad_json": 4}
    assert calm.dropped == {"not_a_dataset": 1}
    assert calm.formats == {"sharegpt": 8}
    assert calm.bytes == sum(item.size for item in raw.data.list(CALM))
    assert not calm.reused
    table = _read(raw, CALM_TABLE)
    assert table.schema.equals(CONVERSATION_SCHEMA)
    assert table.num_rows == 8
    quarantine = _read(raw, keys.QUARANTINE, order=("source_key",))
    assert sorted(quarantine["family"].to_pylist()) == ["calm"] * 4 + ["work"]
    ledger = _read(raw, keys.LEDGER, order=("source_key",)).to_pylist()
    assert [row["source_key"] for row in ledger] == [item.key for item in raw.data.list(keys.RAW)]
    assert sum(row["records_in"] for row in ledger) == sum(r.records_in for r in reports.values())


def test_a_rerun_does_nothing_and_reports_the_same(raw: Lake) -> None:
    first = _convert(raw)
    before = {item.key: item.etag for item in raw.data.list("")}
    again = _convert(raw)
    assert all(report.reused for report in again.values())
    assert {**again["calm"].__dict__, "reused": False} == first["calm"].__dict__
    assert {item.key: item.etag for item in raw.data.list("")} == before


def test_a_copy_of_the_same_bytes_is_no_change(raw: Lake) -> None:
    _convert(raw)
    raw.data.put(f"{CALM}/0.jsonl", raw.data.get(f"{CALM}/0.jsonl"))
    assert _convert(raw)["calm"].reused


@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_a_change_converts_its_family_and_no_other(raw: Lake, change: str) -> None:
    first = _convert(raw)
    said = _said(raw)
    if change == "removed":
        raw.data.delete([f"{CALM}/1.jsonl"])
        expected = said - {"Question 1", "More 1?"}
    else:
        raw.data.put(f"{CALM}/{1 if change == 'changed' else 9}.jsonl", lines(sharegpt("Newly said", "So?")))
        expected = said | {"Newly said"}
        if change == "changed":
            expected -= {"Question 1", "More 1?"}
    second = _convert(raw)
    assert second["work"].reused
    assert not second["calm"].reused
    assert second["calm"].version != first["calm"].version
    assert _said(raw) == expected
    ledger = _read(raw, keys.LEDGER, order=("source_key",))
    assert list(zip(ledger["source_key"].to_pylist(), ledger["etag"].to_pylist(), strict=True)) == [
        (item.key, item.etag) for item in raw.data.list(keys.RAW)
    ]


def test_a_deleted_table_is_made_again(raw: Lake) -> None:
    _convert(raw)
    raw.data.delete([info.key for info in raw.data.list(CALM_TABLE)])
    assert not _convert(raw)["calm"].reused
    assert Table(raw, CALM_TABLE).row_count() > 0


def test_other_code_converts_again(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    _convert(raw)
    monkeypatch.setattr(build, "CODE_VERSION", "another")
    assert not any(report.reused for report in _convert(raw).values())
    assert _read(raw, keys.LEDGER, order=("source_key",)).num_rows == 6


def test_a_family_without_objects_is_taken_out_of_the_books(raw: Lake) -> None:
    _convert(raw)
    gone = {item.key: raw.data.get(item.key) for item in raw.data.list(WORK)}
    raw.data.delete(gone)
    assert retract_families(raw, present={"calm"}) == ["work"]
    for key in (keys.LEDGER, keys.QUARANTINE):
        assert set(_read(raw, key, order=("source_key",))["family"].to_pylist()) == {"calm"}
    assert retract_families(raw, present={"calm"}) == []
    assert _convert(raw)["calm"].reused
    # Its return is news: the books know nothing of it any more.
    for key, data in gone.items():
        raw.data.put(key, data)
    assert not _convert(raw)["work"].reused
    assert set(_read(raw, keys.LEDGER, order=("source_key",))["family"].to_pylist()) == {"calm", "work"}


@pytest.mark.parametrize("event", ["replaced", "deleted"])
def test_an_object_that_changes_under_the_conversion_leaves_the_old_tables(raw: Lake, event: str) -> None:
    _convert(raw)
    said, versions = _said(raw), _versions(raw)
    raw.data.put(f"{CALM}/0.jsonl", lines(sharegpt("Second version", "Yes.")))
    inventory = list_raw(raw).objects
    if event == "replaced":
        raw.data.put(f"{CALM}/3.jsonl", lines(sharegpt("Came in between", "Yes.")))
    else:
        raw.data.delete([f"{CALM}/3.jsonl"])
    with pytest.raises((ObjectChangedError, ObjectNotFoundError), match=f"{CALM}/3.jsonl"):
        _convert(raw, inventory=inventory)
    assert _said(raw) == said
    assert _versions(raw) == versions
    # The next listing takes it up.
    assert not _convert(raw)["calm"].reused
    assert "Second version" in _said(raw)


def test_a_crash_between_the_commits_is_made_good_by_the_next_run(
    raw: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversations are written, the ledger is not: without a memo nothing counts as done."""
    overwrite = Table.overwrite

    def failing(table: Table, data: Any, **options: Any) -> int:
        if table.key == keys.LEDGER:
            raise KeyboardInterrupt
        return overwrite(table, data, **options)

    monkeypatch.setattr(Table, "overwrite", failing)
    with pytest.raises(KeyboardInterrupt):
        _convert(raw)
    monkeypatch.setattr(Table, "overwrite", overwrite)
    assert not any(report.reused for report in _convert(raw).values())
    assert _read(raw, CALM_TABLE).num_rows == 8
    assert _read(raw, keys.QUARANTINE, order=("source_key",)).num_rows == 5
    assert _read(raw, keys.LEDGER, order=("source_key",)).num_rows == 6


def test_one_worker_and_two_make_equal_tables(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal row for row; their order within a file is the table writer's own. An object that changed is the same error."""
    tables = (
        (CALM_TABLE, CONVERSATION_SCHEMA),
        (keys.QUARANTINE, QUARANTINE_SCHEMA),
        (keys.LEDGER, LEDGER_SCHEMA),
    )
    monkeypatch.setattr(build, "BUNDLE_OBJECTS", 1)
    alone = _convert(raw)["calm"]
    expected = [Table(raw, key).dataset().to_table() for key, _ in tables]
    raw.data.delete([item.key for item in raw.data.list(keys.MEMO)])
    inventory = list_raw(raw).objects
    calm = inventory.slice(0, 5)
    together = _convert(raw, workers=2, inventory=calm)["calm"]
    assert together == alone
    for (key, schema), before in zip(tables, expected, strict=True):
        after = Table(raw, key).dataset().to_table()
        assert after.schema.equals(schema)
        order = [("id", "ascending")] if "id" in schema.names else [("source_key", "ascending")]
        assert after.sort_by(order) == before.sort_by(order)
    for number in range(2):
        raw.data.put(f"{CALM}/{number}.jsonl", lines(sharegpt("Came in between", "Yes.")))
    with pytest.raises(ObjectChangedError, match=f"{CALM}/0.jsonl"):
        _convert(raw, workers=2, inventory=_touched(calm))


def _touched(inventory: pa.Table) -> pa.Table:
    """The same objects with one more: no memo knows this list."""
    return pa.concat_tables([inventory, inventory.slice(inventory.num_rows - 1)])


@pytest.mark.parametrize(
    ("sizes", "bundles"),
    [
        ([], []),
        ([5, 5, 5], [[5, 5], [5]]),
        ([11, 1, 9, 1], [[11], [1, 9], [1]]),
        ([0] * 5, [[0, 0, 0], [0, 0]]),
    ],
)
def test_bundles_are_bounded_and_keep_the_order(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], bundles: list[list[int]]
) -> None:
    monkeypatch.setattr(build, "BUNDLE_BYTES", 10)
    monkeypatch.setattr(build, "BUNDLE_OBJECTS", 3)
    inventory = pa.table(
        {
            "key": [f"{CALM}/{number}" for number in range(len(sizes))],
            "size": pa.array(sizes, pa.int64()),
            "etag": ["e"] * len(sizes),
        }
    )
    families = families_of(inventory, config=FamilyConfig(), bucket="b")
    objects = families["calm"][1] if sizes else []
    assert [[source.size for source in bundle.objects] for bundle in build._bundles(objects)] == bundles
