"""A family's tables follow its raw objects: whole or not at all, once and not again, by however many workers."""

from dataclasses import replace
from datetime import timedelta
import re
from typing import Any

import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.conversations.families.config import FamilyConfig, FamilyRule
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.work import (
    build,
)
from pixel_pipeline.conversations.work import (
    family as family_work,
)
from pixel_pipeline.conversations.work import (
    plan as tasks,
)
from pixel_pipeline.conversations.work import (
    results as task_results,
)
from pixel_pipeline.conversations.work.build import (
    FamilyReport,
    convert_family,
    families_of,
    retract_families,
)
from pixel_pipeline.conversations.work.family import TABLE_SCHEMA
from pixel_pipeline.conversations.work.results import TaskResult
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.s3.errors import ObjectChangedError, ObjectNotFoundError
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline_tests.conversations.converted import lines, sharegpt

CALM = "gdrive/raw/Calm"
WORK = "gdrive/raw/Work"
DEFAULT_CONFIG = FamilyConfig()
CALM_RULE = DEFAULT_CONFIG.classify(f"{CALM}/0.jsonl")
CALM_TABLE = keys.conversations_table(category="calm", dataset="calm")


@pytest.fixture
def raw(lake: Lake) -> Lake:
    """Two families with six objects: conversations, bad lines and files that are not data."""
    for number in range(4):
        lake.data.put(
            f"{CALM}/{number}.jsonl",
            lines(sharegpt(f"Question {number}", "Answer"), b'{"broken', sharegpt(f"More {number}?", "Yes.")),
        )
    lake.data.put(f"{CALM}/picture.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
    lake.data.put(f"{WORK}/0.json", orjson.dumps([sharegpt("Tired", "Of what?"), {"odd": 1}]))
    return lake


def _convert(
    lake: Lake,
    *,
    workers: int = 1,
    inventory: pa.Table | None = None,
    config: FamilyConfig = DEFAULT_CONFIG,
) -> dict[str, FamilyReport]:
    families = families_of(
        list_raw(lake).objects if inventory is None else inventory,
        config=config,
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


def test_every_record_is_in_a_table_and_in_the_report(raw: Lake) -> None:
    reports = _convert(raw)
    calm = reports["calm"]
    assert (calm.objects, calm.records_in, calm.records_out) == (5, 13, 8)
    assert calm.quarantined == {"bad_json": 4}
    assert calm.dropped == {"not_a_dataset": 1}
    assert calm.formats == {"sharegpt": 8}
    assert calm.bytes == sum(item.size for item in raw.data.list(CALM))
    assert not calm.reused
    table = _read(raw, CALM_TABLE)
    assert table.schema.equals(TABLE_SCHEMA)
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
    assert replace(again["calm"], reused=False, converted=5) == first["calm"]
    assert {item.key: item.etag for item in raw.data.list("")} == before


def test_copying_the_same_bytes_changes_nothing(raw: Lake) -> None:
    _convert(raw)
    raw.data.put(f"{CALM}/0.jsonl", raw.data.get(f"{CALM}/0.jsonl"))
    assert _convert(raw)["calm"].reused


@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_a_change_converts_only_its_family(raw: Lake, change: str) -> None:
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


def test_a_deleted_table_is_rebuilt(raw: Lake) -> None:
    _convert(raw)
    raw.data.delete([info.key for info in raw.data.list(CALM_TABLE)])
    assert not _convert(raw)["calm"].reused
    assert Table(raw, CALM_TABLE).row_count() > 0


def test_a_new_recipe_converts_again(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    _convert(raw)
    monkeypatch.setattr(build, "RECIPE_VERSION", "another")
    assert not any(report.reused for report in _convert(raw).values())
    assert _read(raw, keys.LEDGER, order=("source_key",)).num_rows == 6


def test_a_family_without_objects_is_removed(raw: Lake) -> None:
    _convert(raw)
    gone = {item.key: raw.data.get(item.key) for item in raw.data.list(WORK)}
    raw.data.delete(gone)
    assert retract_families(raw, present=[CALM_RULE]) == ["work"]
    for key in (keys.LEDGER, keys.QUARANTINE):
        assert set(_read(raw, key, order=("source_key",))["family"].to_pylist()) == {"calm"}
    assert retract_families(raw, present=[CALM_RULE]) == []
    assert _convert(raw)["calm"].reused
    # When it returns, it is converted like a new family.
    for key, data in gone.items():
        raw.data.put(key, data)
    assert not _convert(raw)["work"].reused
    assert set(_read(raw, keys.LEDGER, order=("source_key",))["family"].to_pylist()) == {"calm", "work"}


@pytest.mark.parametrize("event", ["replaced", "deleted"])
def test_an_object_changed_during_the_conversion_leaves_the_old_tables(raw: Lake, event: str) -> None:
    _convert(raw)
    said, versions = _said(raw), _versions(raw)
    for number in (0, 3):
        raw.data.put(f"{CALM}/{number}.jsonl", lines(sharegpt("Second version", "Yes.")))
    inventory = list_raw(raw).objects
    if event == "replaced":
        raw.data.put(f"{CALM}/3.jsonl", lines(sharegpt("Came in between", "Yes.")))
    else:
        raw.data.delete([f"{CALM}/3.jsonl"])
    with pytest.raises((ObjectChangedError, ObjectNotFoundError), match=f"{CALM}/3.jsonl"):
        _convert(raw, inventory=inventory)
    assert _said(raw) == said
    assert _versions(raw) == versions
    # The next inventory lists the new version.
    assert not _convert(raw)["calm"].reused
    assert "Second version" in _said(raw)


def test_the_next_run_repairs_a_crash_between_commits(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversations are committed, the ledger is not. Without a memo, the family does not count as converted."""
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


def _stored(lake: Lake, *prefixes: str) -> dict[str, bytes]:
    """The files of all tables by name, without logs, which contain times."""
    return {
        item.key: lake.data.get(item.key)
        for prefix in prefixes
        for item in lake.data.list(prefix)
        if "_delta_log" not in item.key
    }


def _canonical(lake: Lake) -> dict[str, bytes]:
    return _stored(lake, keys.PROCESSED, keys.CONVERSION)


def _undo(lake: Lake) -> None:
    """Delete every result of conversion."""
    for prefix in (keys.PROCESSED, keys.INTERNAL):
        lake.data.delete([item.key for item in lake.data.list(prefix)])


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tasks of a few hundred bytes, and cut larger objects."""
    monkeypatch.setattr(tasks, "TASK_BYTES", 300)


@pytest.mark.usefixtures("small_tasks")
@pytest.mark.parametrize("workers", [2, pytest.param(8, marks=pytest.mark.deep)])
def test_several_workers_make_the_same_bytes_as_one(raw: Lake, workers: int) -> None:
    _big(raw)
    alone = _convert(raw)
    expected = _canonical(raw)
    assert len(expected) > 20
    _undo(raw)
    assert _convert(raw, workers=workers) == alone
    assert _canonical(raw) == expected


def _big(lake: Lake, kind: str = "lines") -> None:
    texts = [sharegpt(f"Question, {number} of many", "Answer\n " * (number % 7 + 1)) for number in range(60)]
    bad = [orjson.dumps(text)[:-9] for text in texts[::7]]
    mixed = [line for number, text in enumerate(texts) for line in (text, *bad[number : number + 1])]
    if kind == "lines":
        data = lines(*mixed)
    elif kind == "array":
        data = orjson.dumps([*texts, {"odd": [1, {"id": 2}]}, *texts], option=orjson.OPT_INDENT_2)
    elif kind == "damaged array":
        data = orjson.dumps(texts).replace(b"}]},{", b"}]}],{", 1)
    else:
        cells = [[turn["value"] for turn in text["conversations"]] for text in texts]
        # After a quote that never closes, everything is ambiguous.
        stray = '"never, closed\n' if kind == "table with a stray quote" else ""
        rows = [f'"{asked}","{answered} ""so"" said"\n' for asked, answered in cells]
        data = ("question,answer\n" + "".join(rows[:30]) + stray + "".join(rows[30:])).encode()
    lake.data.put(f"{CALM}/big.jsonl", b"\xef\xbb\xbf" + data)


@pytest.mark.parametrize(
    ("kind", "is_cut"),
    [
        ("lines", True),
        ("array", True),
        ("table", True),
        ("damaged array", False),
        ("table with a stray quote", False),
    ],
)
def test_a_cut_object_gives_the_same_rows_as_a_whole_one(
    raw: Lake, monkeypatch: pytest.MonkeyPatch, kind: str, is_cut: bool
) -> None:
    _big(raw, kind)
    whole = _convert(raw)["calm"]
    shown = ("id", "messages", "source", "content_hash")
    expected = _read(raw, CALM_TABLE).select(shown)
    ledger = _read(raw, keys.LEDGER, order=("source_key",))
    quarantine = _read(raw, keys.QUARANTINE, order=("source_key", "position"))
    _undo(raw)
    monkeypatch.setattr(tasks, "TASK_BYTES", 300)
    cut = _convert(raw)["calm"]
    assert cut == whole
    assert (len(Table(raw, CALM_TABLE).parts()) > 10) == is_cut
    assert _read(raw, CALM_TABLE).select(shown) == expected
    assert _read(raw, keys.LEDGER, order=("source_key",)) == ledger
    assert _read(raw, keys.QUARANTINE, order=("source_key", "position")) == quarantine


@pytest.mark.usefixtures("small_tasks")
@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_only_changed_objects_are_converted(raw: Lake, change: str) -> None:
    """The outcome equals a conversion from scratch."""
    _convert(raw)
    if change == "removed":
        raw.data.delete([f"{CALM}/1.jsonl"])
    else:
        key = f"{CALM}/{1 if change == 'changed' else '1b'}.jsonl"
        raw.data.put(key, lines(sharegpt("Newly said", "So?"), b"{bad"))
    report = _convert(raw)["calm"]
    assert report.converted == (0 if change == "removed" else 1)
    tables = (CALM_TABLE, keys.LEDGER, keys.QUARANTINE)
    outcome = [_read(raw, key, order=(("id",) if key == CALM_TABLE else ("source_key",))) for key in tables]
    files = set(Table(raw, CALM_TABLE).dataset().files)
    _undo(raw)
    assert replace(_convert(raw)["calm"], converted=report.converted) == report
    assert [
        _read(raw, key, order=(("id",) if key == CALM_TABLE else ("source_key",))) for key in tables
    ] == outcome
    assert set(Table(raw, CALM_TABLE).dataset().files) == files


@pytest.mark.usefixtures("small_tasks")
def test_a_killed_conversion_resumes(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    _big(raw)
    whole = _convert(raw)
    expected = _canonical(raw)
    _undo(raw)
    run, ran = family_work.run_task, []

    def killed(task: tasks.Task) -> TaskResult:
        if len(ran) == 7:
            raise KeyboardInterrupt
        ran.append(task.name)
        return run(task)

    monkeypatch.setattr(family_work, "run_task", killed)
    with pytest.raises(KeyboardInterrupt):
        _convert(raw)
    assert not Table(raw, CALM_TABLE).exists()
    first = list(ran)
    monkeypatch.setattr(family_work, "run_task", lambda task: ran.append(task.name) or run(task))
    again = _convert(raw)
    assert len(ran) == len(set(ran)) > len(first) == 7
    assert {family: replace(report, converted=0) for family, report in again.items()} == {
        family: replace(report, converted=0) for family, report in whole.items()
    }
    assert _canonical(raw) == expected


def test_old_results_outside_tables_are_not_reused(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that no table refers to may be vacuumed at any time."""
    _convert(raw)
    raw.data.delete([item.key for item in raw.data.list(f"{CALM_TABLE}/_delta_log")])
    run, ran = family_work.run_task, []
    monkeypatch.setattr(family_work, "run_task", lambda task: ran.append(task.name) or run(task))
    _convert(raw)
    assert ran == []
    raw.data.delete([item.key for item in raw.data.list(f"{CALM_TABLE}/_delta_log")])
    monkeypatch.setattr(task_results, "FRESH", timedelta(0))
    _convert(raw)
    assert len(ran) == 1


def _config(**tables: tuple[str, str, str]) -> FamilyConfig:
    """Category, family and dataset by folder."""
    return FamilyConfig(
        tuple(
            (re.compile(f"gdrive/raw/{folder}/.*", re.DOTALL), FamilyRule(*place))
            for folder, place in tables.items()
        )
    )


def _table(lake: Lake, category: str, dataset: str) -> pa.Table:
    return _read(lake, keys.conversations_table(category=category, dataset=dataset))


def test_a_renamed_family_keeps_its_rows(raw: Lake) -> None:
    before = _convert(raw)
    rows = _read(raw, CALM_TABLE)
    reports = _convert(raw, config=_config(Calm=("priority", "quiet", "wave_1")))
    assert reports["quiet"].converted == 0
    assert reports["work"].reused
    rules = [FamilyRule("priority", "quiet", "wave_1"), FamilyRule("work", "work", "work")]
    assert retract_families(raw, present=rules) == ["calm"]
    moved = _table(raw, "priority", "wave_1")
    same = [name for name in rows.schema.names if name not in ("category", "family", "dataset", "part")]
    assert moved.select(same) == rows.select(same)
    assert set(
        zip(*(moved[name].to_pylist() for name in ("category", "family", "dataset")), strict=True)
    ) == {("priority", "quiet", "wave_1")}
    assert Table(raw, CALM_TABLE).row_count() == 0
    for key in (keys.LEDGER, keys.QUARANTINE):
        assert set(_read(raw, key, order=("source_key",))["family"].to_pylist()) == {"quiet", "work"}
    assert reports["quiet"].quarantined == before["calm"].quarantined
    assert reports["quiet"].records_in == before["calm"].records_in


def test_families_that_swap_tables_leave_no_rows_behind(raw: Lake) -> None:
    _convert(raw, config=_config(Calm=("a", "calm", "one"), Work=("a", "work", "two")))
    for calm, work in (("two", "one"), ("three", "two")):
        reports = _convert(raw, config=_config(Calm=("a", "calm", calm), Work=("a", "work", work)))
        assert {report.converted for report in reports.values()} == {0}
        assert _table(raw, "a", calm)["family"].to_pylist() == ["calm"] * 8
        assert _table(raw, "a", work)["family"].to_pylist() == ["work"]
    assert _table(raw, "a", "one").num_rows == 0


def test_a_table_of_another_layout_is_replaced(raw: Lake) -> None:
    Table(raw, CALM_TABLE).overwrite(pa.table({"id": ["a"], "messages": ["other columns"]}))
    _convert(raw)
    assert _read(raw, CALM_TABLE).num_rows == 8
    assert Table(raw, CALM_TABLE).dataset().schema.equals(TABLE_SCHEMA)


@pytest.mark.parametrize(
    ("sizes", "bundles"),
    [
        ([], []),
        ([5, 5, 5], [[5, 5], [5]]),
        ([11, 1, 9, 1], [[11], [1, 9], [1]]),
        ([0] * 5, [[0, 0, 0], [0, 0]]),
    ],
)
def test_objects_are_packed_within_bounds_and_in_order(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], bundles: list[list[int]]
) -> None:
    monkeypatch.setattr(tasks, "TASK_BYTES", 10)
    monkeypatch.setattr(tasks, "TASK_OBJECTS", 3)
    monkeypatch.setattr(tasks, "CUT_KEYS", 1 << 64)
    inventory = pa.table(
        {
            "key": [f"{CALM}/{number}" for number in range(len(sizes))],
            "size": pa.array(sizes, pa.int64()),
            "etag": ["e"] * len(sizes),
        }
    )
    families = families_of(inventory, config=FamilyConfig(), bucket="b")
    objects = families["calm"][1] if sizes else []
    planned = tasks.plan(objects, table="t", recipe="r", cut=lambda source: [tasks.Piece.whole(source)])
    assert [[piece.source.size for piece in task.pieces] for task in planned] == bundles


def test_changed_options_convert_their_objects_again(raw: Lake) -> None:
    raw.data.put(f"{CALM}/alone.jsonl", lines({"conversations": [{"from": "human", "value": "Alone"}]}))
    raw.data.put(f"{CALM}/diary.jsonl", lines({"conversations": [{"from": "human", "value": "Dear diary"}]}))
    assert _convert(raw)["calm"].quarantined == {"bad_json": 4, "one_sided": 2}
    kept = CALM_RULE._replace(options=ConversionOptions(one_sided="keep"))
    config = FamilyConfig(((re.compile(".*/diary.*"), kept),))
    report = _convert(raw, config=config)["calm"]
    assert report.quarantined == {"bad_json": 4, "one_sided": 1}
    assert report.converted == 1
    assert "Dear diary" in _said(raw)
    assert _convert(raw, config=config)["calm"].reused
    # Revert the options.
    assert _convert(raw)["calm"].quarantined == {"bad_json": 4, "one_sided": 2}
    assert "Dear diary" not in _said(raw)


def test_detection_is_the_same_whole_or_in_ranges(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [sharegpt(f"Question {n}", "Answer") if n % 5 else {"odd": n} for n in range(9000)]
    raw.data.put(f"{CALM}/large.jsonl", b"\xef\xbb\xbf" + lines(*records))
    _convert(raw)
    whole = _read(raw, keys.LEDGER, order=("source_key",))
    monkeypatch.setattr(tasks, "TASK_BYTES", 300_000)
    monkeypatch.setattr(build, "RECIPE_VERSION", "other")
    _convert(raw)
    assert len(Table(raw, CALM_TABLE).parts()) > 2
    cut = _read(raw, keys.LEDGER, order=("source_key",))
    assert cut.drop(["code_version"]).equals(whole.drop(["code_version"]))
    large = orjson.loads(
        whole["detection"].to_pylist()[whole["source_key"].to_pylist().index(f"{CALM}/large.jsonl")]
    )
    assert 4 * large["votes"]["unrecognised"] == pytest.approx(large["votes"]["sharegpt"], rel=0.01)
    assert large["sample"] < 4_000


@pytest.mark.usefixtures("small_tasks")
def test_a_large_object_that_cannot_be_opened_is_quarantined(raw: Lake) -> None:
    raw.data.put(f"{CALM}/large.7z", b"7z\xbc\xaf\x27\x1c" + bytes(1000))
    assert _convert(raw)["calm"].quarantined == {"bad_json": 4, "unsupported_container": 1}
