"""A replay converts the objects with quarantined records, and no others; the outcome equals a full conversion."""

import io
import re
from typing import Any
import zipfile

import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.compute.local import LocalExecutor
from pixel_pipeline.conversations.families.config import FamilyConfig, FamilyRule
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.quarantine.reading import Selection
from pixel_pipeline.conversations.work import build, plan, run
from pixel_pipeline.conversations.work.build import replay_quarantine
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline_tests.conversations.converted import lines, sharegpt
from pixel_pipeline_tests.conversations.lakes import convert_all

CALM = "gdrive/raw/Calm"
TABLE = keys.conversations_table(category="calm", dataset="calm")
ALONE = {"conversations": [{"from": "human", "value": "Nobody, answers me"}]}
SESSIONS = {"sessions": [sharegpt("One", "Two"), ALONE]}
GOOD = [sharegpt(f"Question {number}", "An answer, of course") for number in range(9)]


def corrected(**options: Any) -> FamilyConfig:
    """Rules that accept the records that were refused."""
    rule = FamilyRule("calm", "calm", "calm", ConversionOptions(one_sided="keep", **options))
    return FamilyConfig(((re.compile("gdrive/raw/Calm/.*", re.DOTALL), rule),))


def objects(kind: str) -> bytes:
    records = [*GOOD[:4], ALONE, *GOOD[4:], ALONE, SESSIONS]
    if kind == "lines":
        return lines(*records, b'{"broken')
    if kind == "array":
        return orjson.dumps([*records, {"odd": 1}], option=orjson.OPT_INDENT_2)
    if kind == "document":
        return orjson.dumps({"records": records, "by": "nobody"})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inner.jsonl", lines(*records))
    return archive.getvalue()


def replayed(lake: Lake, config: FamilyConfig, selection: Selection) -> list[tuple[str, int, int]]:
    with LocalExecutor(workers=1) as executor:
        found = replay_quarantine(lake, config=config, executor=executor, selection=selection)
        return [(report.family, before, after) for report, before, after in found]


def rows(lake: Lake) -> list[pa.Table]:
    order = [("source_key", "ascending"), ("position", "ascending")]
    ledger = Table(lake, keys.LEDGER).read().drop_columns("detection").sort_by(order[:1])
    table = Table(lake, TABLE).read().drop_columns("part").sort_by("id")
    return [table, Table(lake, keys.QUARANTINE).read().sort_by(order), ledger]


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the objects that are converted, since the list was last cleared."""
    done: list[str] = []
    convert = run.convert_object

    def noted(source: Any, stream: Any, **options: Any) -> Any:
        done.append(source.key)
        return convert(source, stream, **options)

    monkeypatch.setattr(run, "convert_object", noted)
    return done


@pytest.mark.parametrize("kind", ["lines", "array", "document", "zip"])
@pytest.mark.parametrize("task_bytes", [300, 1 << 20])
def test_a_replay_gives_the_same_rows_as_a_conversion(
    lake: Lake, conversions: list[str], monkeypatch: pytest.MonkeyPatch, kind: str, task_bytes: int
) -> None:
    monkeypatch.setattr(plan, "TASK_BYTES", task_bytes)
    data = objects(kind)
    lake.data.put(f"{CALM}/a", data)
    lake.data.put(f"{CALM}/good.jsonl", lines(*GOOD))
    lake.data.put("gdrive/raw/Other/a.jsonl", lines(*GOOD, ALONE))
    convert_all(lake)
    conversions.clear()
    assert replayed(lake, corrected(), Selection(family="calm", error_class="one_sided")) == [("calm", 3, 0)]
    assert {*conversions} == {f"{CALM}/a"}
    outcome = rows(lake)
    conversions.clear()
    convert_all(lake, corrected())
    assert conversions == []
    assert rows(lake) == outcome
    for prefix in (keys.PROCESSED, keys.INTERNAL):
        lake.data.delete([item.key for item in lake.data.list(prefix)])
    convert_all(lake, corrected())
    assert rows(lake)[:2] == outcome[:2]
    shown = [name for name in outcome[2].schema.names if not name.endswith("_bad_run")]
    assert rows(lake)[2].select(shown) == outcome[2].select(shown)


def test_other_objects_and_their_records_stay_in_quarantine(lake: Lake, conversions: list[str]) -> None:
    lake.data.put(f"{CALM}/a.jsonl", objects("lines"))
    lake.data.put(f"{CALM}/b.jsonl", lines(*GOOD, ALONE))
    convert_all(lake)
    conversions.clear()
    selection = Selection(key="**/a.jsonl", error_class="one_sided")
    assert replayed(lake, corrected(), selection) == [("calm", 3, 0)]
    assert conversions == [f"{CALM}/a.jsonl"]
    left = Table(lake, keys.QUARANTINE).read(columns=["source_key", "error_class"])
    assert left.to_pylist() == [
        {"source_key": f"{CALM}/a.jsonl", "error_class": "bad_json"},
        {"source_key": f"{CALM}/b.jsonl", "error_class": "one_sided"},
    ]
    assert replayed(lake, corrected(), Selection(error_class="unknown_role")) == []


def test_a_replay_of_everything_leaves_nothing_to_convert(
    lake: Lake, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new recipe that changes no row."""
    lake.data.put(f"{CALM}/a.jsonl", objects("lines"))
    lake.data.put(f"{CALM}/good.jsonl", lines(*GOOD))
    lake.data.put("gdrive/raw/Other/a.jsonl", lines(*GOOD))
    convert_all(lake)
    outcome = rows(lake)
    conversions.clear()
    monkeypatch.setattr(build, "RECIPE_VERSION", "corrected")
    assert replayed(lake, FamilyConfig(), Selection()) == [("calm", 4, 4), ("other", 0, 0)]
    assert conversions == [f"{CALM}/a.jsonl"]
    conversions.clear()
    convert_all(lake)
    assert conversions == []
    assert [
        part.drop_columns(["code_version"]) if "code_version" in part.schema.names else part
        for part in rows(lake)
    ] == [
        part.drop_columns(["code_version"]) if "code_version" in part.schema.names else part
        for part in outcome
    ]
