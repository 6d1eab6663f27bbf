"""What lies in quarantine is converted after a fix, and nothing else is; the outcome is that of a conversion from nothing."""

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
from pixel_pipeline.conversations.quarantine.reading import Wanted
from pixel_pipeline.conversations.work import build, replay
from pixel_pipeline.conversations.work import plan as tasks
from pixel_pipeline.conversations.work import run as task_run
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
    """What was refused is now wanted."""
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


def replayed(lake: Lake, config: FamilyConfig, wanted: Wanted) -> list[tuple[str, int, int]]:
    with LocalExecutor(workers=1) as executor:
        found = replay_quarantine(lake, config=config, executor=executor, wanted=wanted)
        return [(report.family, before, after) for report, before, after in found]


def rows(lake: Lake) -> list[pa.Table]:
    order = [("source_key", "ascending"), ("position", "ascending")]
    ledger = Table(lake, keys.LEDGER).read().drop_columns("detection").sort_by(order[:1])
    table = Table(lake, TABLE).read().drop_columns("part").sort_by("id")
    return [table, Table(lake, keys.QUARANTINE).read().sort_by(order), ledger]


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that were converted, from when it is emptied."""
    done: list[int] = []
    for module in (replay, task_run):
        convert = module.convert_object  # type: ignore[attr-defined]

        def noted(source: Any, stream: Any, convert: Any = convert, **options: Any) -> Any:
            data = stream.read()
            done.append(len(data))
            return convert(source, io.BytesIO(data), **options)

        monkeypatch.setattr(module, "convert_object", noted)
    return done


@pytest.mark.parametrize("kind", ["lines", "array", "document", "zip"])
@pytest.mark.parametrize("task_bytes", [300, 1 << 20])
def test_a_replay_comes_to_what_a_conversion_comes_to(
    lake: Lake, conversions: list[int], monkeypatch: pytest.MonkeyPatch, kind: str, task_bytes: int
) -> None:
    monkeypatch.setattr(tasks, "TASK_BYTES", task_bytes)
    data = objects(kind)
    lake.data.put(f"{CALM}/a", data)
    lake.data.put(f"{CALM}/good.jsonl", lines(*GOOD))
    lake.data.put("gdrive/raw/Other/a.jsonl", lines(*GOOD, ALONE))
    convert_all(lake)
    conversions.clear()
    assert replayed(lake, corrected(), Wanted(family="calm", error_class="one_sided")) == [("calm", 3, 0)]
    alone = kind in ("lines", "array")
    assert (sum(conversions) < len(data) / 2) == alone
    outcome = rows(lake)
    files = len(Table(lake, TABLE).dataset().files)
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
    assert len(Table(lake, TABLE).dataset().files) == files


def test_what_is_not_wanted_stays_in_quarantine(lake: Lake) -> None:
    lake.data.put(f"{CALM}/a.jsonl", objects("lines"))
    lake.data.put(f"{CALM}/b.jsonl", lines(*GOOD, ALONE))
    convert_all(lake)
    assert replayed(lake, corrected(), Wanted(key="**/a.jsonl", error_class="one_sided")) == [("calm", 3, 0)]
    left = Table(lake, keys.QUARANTINE).read(columns=["source_key", "error_class"])
    assert left.to_pylist() == [
        {"source_key": f"{CALM}/a.jsonl", "error_class": "bad_json"},
        {"source_key": f"{CALM}/b.jsonl", "error_class": "one_sided"},
    ]
    assert replayed(lake, corrected(), Wanted(error_class="unknown_role")) == []


def test_a_replay_of_everything_leaves_nothing_to_convert(
    lake: Lake, conversions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other code, which changes nothing: files stay where they are, and count as its own."""
    lake.data.put(f"{CALM}/a.jsonl", objects("lines"))
    lake.data.put("gdrive/raw/Other/a.jsonl", lines(*GOOD))
    convert_all(lake)
    outcome, files = rows(lake), Table(lake, TABLE).dataset().files
    conversions.clear()
    monkeypatch.setattr(build, "RECIPE_VERSION", "corrected")
    assert replayed(lake, FamilyConfig(), Wanted()) == [("calm", 4, 4), ("other", 0, 0)]
    assert sum(conversions) < 1_000
    conversions.clear()
    convert_all(lake)
    assert conversions == []
    assert rows(lake) == outcome
    assert len(Table(lake, TABLE).dataset().files) == len(files)
