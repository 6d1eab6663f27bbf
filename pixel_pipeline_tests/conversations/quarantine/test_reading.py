"""What lies in quarantine can be counted, found and read, one record at a time."""

from collections.abc import Iterator
import io
from pathlib import Path
import uuid
import zipfile

import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.conversations.convert.refused import OWN_ROWS, REST
from pixel_pipeline.conversations.model.schema import QUARANTINE_SCHEMA
from pixel_pipeline.conversations.quarantine.reading import (
    Count,
    QuarantinedRecord,
    QuarantineError,
    Selection,
    counts,
    find,
    raw_bytes,
    records,
)
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import get_settings
from pixel_pipeline_tests.conversations.converted import lines, sharegpt
from pixel_pipeline_tests.conversations.lakes import convert_all

GOOD = sharegpt("a", "b")
EMPTY = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": " "}]}
# Two bad sessions of one record.
SESSIONS = {"sessions": [GOOD, {"messages": [{"content": "first", "role": "user"}]}] * 2}
CALM, WORK, ZIPPED = "gdrive/raw/Calm/a.jsonl", "gdrive/raw/Work/deep/b.jsonl", "acquired/Zip/all.zip"


@pytest.fixture(scope="module")
def refused(session_home: Path) -> Iterator[Lake]:
    """A lake with bad records of every kind, converted once and then only read."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("one.jsonl", lines(GOOD, b'{"broken', GOOD))
        file.writestr("two.jsonl", lines(GOOD, b'{"broken', GOOD))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXEL_HOME", str(session_home))
        for variable in ("PIXEL_BUCKET", "PIXEL_CHECKPOINT_BUCKET"):
            patch.setenv(variable, f"refused-{uuid.uuid4().hex[:12]}")
        lake = Lake.open(get_settings())
        lake.data.put(CALM, lines(GOOD, b'{"broken', EMPTY, SESSIONS))
        lake.data.put(WORK, lines(*[{"odd": n} for n in range(OWN_ROWS + 50)]))
        lake.data.put("gdrive/raw/Work/c.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
        lake.data.put(ZIPPED, archive.getvalue())
        convert_all(lake)
        yield lake


def test_counts_are_of_records_not_rows(refused: Lake) -> None:
    found = counts(refused, Selection())
    assert [count for count in found if count.family != "zip"] == [
        Count("calm", CALM, "bad_json", 1),
        Count("calm", CALM, "empty_turn", 1),
        Count("calm", CALM, "one_sided", 2),
        Count("work", "gdrive/raw/Work/c.doc", "unsupported_container", 1),
        Count("work", WORK, "unrecognised_schema", OWN_ROWS + 50),
    ]


@pytest.mark.parametrize(
    ("selection", "objects"),
    [
        (Selection(family="calm"), {CALM}),
        (Selection(error_class="bad_json"), {CALM, ZIPPED}),
        (Selection(family="calm", error_class="unrecognised_schema"), set()),
        (Selection(key="gdrive/raw/Work/*"), {"gdrive/raw/Work/c.doc"}),
        (Selection(key="gdrive/raw/Work/**"), {"gdrive/raw/Work/c.doc", WORK}),
        (Selection(key="**/a.jsonl", family="calm"), {CALM}),
        (Selection(key="a.jsonl"), set()),
    ],
)
def test_records_are_selected_by_family_error_and_key(
    refused: Lake, selection: Selection, objects: set[str]
) -> None:
    assert {count.source_key for count in counts(refused, selection)} == objects
    found, total = records(refused, selection)
    assert len(found) == total
    assert {record.source_key for record in found} == objects


def test_ids_are_unique_and_independent_of_the_selection(refused: Lake) -> None:
    everything, total = records(refused, Selection())
    assert len({record.id for record in everything}) == total
    for selection in (Selection(error_class="one_sided"), Selection(family="calm"), Selection(key="**.zip")):
        found, _ = records(refused, selection)
        assert found
        assert set(found) <= set(everything)
    assert records(refused, Selection(), limit=3) == (everything[:3], total)


def test_records_are_found_by_id_with_their_bytes(refused: Lake) -> None:
    everything, _ = records(refused, Selection())
    for record in everything[:8] + everything[-8:]:
        assert find(refused, record.id) == find(refused, record.id[:12]) == record
    kept = {
        (record.error_class, record.ordinal): raw_bytes(refused, record)
        for record in records(refused, Selection(family="calm"))[0]
    }
    assert kept == {
        ("bad_json", 0): b'{"broken',
        ("empty_turn", 0): orjson.dumps(EMPTY),
        ("one_sided", 0): orjson.dumps(SESSIONS["sessions"][1]),
        ("one_sided", 1): orjson.dumps(SESSIONS["sessions"][1]),
    }


def test_a_record_is_found_by_its_position(refused: Lake) -> None:
    position = len(lines(GOOD))
    record = find(refused, CALM, position=position)
    assert (record.error_class, record.position_kind, record.records) == ("bad_json", "byte", 1)
    assert find(refused, ZIPPED, position=position, member="two.jsonl").member == "two.jsonl"
    assert find(refused, "gdrive/raw/Work/c.doc").position_kind == "object"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (CALM, "4 quarantined records"),
        ("", "quarantined records match"),
        ("gdrive/raw/Calm/none", "No quarantined record"),
        ("xyz", "No quarantined record"),
    ],
)
def test_unknown_and_ambiguous_names_are_refused(refused: Lake, name: str, message: str) -> None:
    with pytest.raises(QuarantineError, match=message):
        find(refused, name)


def test_the_error_for_missing_bytes_names_the_object(refused: Lake) -> None:
    everything, _ = records(refused, Selection(family="work"))
    rest: list[QuarantinedRecord] = [record for record in everything if record.position_kind == REST]
    assert [record.records for record in rest] == [50]
    for record in (*rest, find(refused, "gdrive/raw/Work/c.doc")):
        with pytest.raises(QuarantineError, match=f"s3://{refused.data.name}/{record.source_key}"):
            raw_bytes(refused, record)


def test_a_quarantine_without_the_records_column_is_read(lake: Lake) -> None:
    old = pa.schema([field for field in QUARANTINE_SCHEMA if field.name != "records"])
    row = dict.fromkeys(("source_key", "etag", "error_class", "reason", "family", "code_version"), "x")
    row |= {"position": 0, "position_kind": "byte", "member": None, "raw_bytes": b"raw", "raw_size": 3}
    Table(lake, keys.QUARANTINE).overwrite(pa.Table.from_pylist([row], schema=old), partition_by="family")
    assert counts(lake, Selection()) == [Count("x", "x", "x", 1)]
    ((record,), _) = records(lake, Selection())
    assert raw_bytes(lake, record) == b"raw"


def test_without_a_quarantine_the_error_says_what_to_run(lake: Lake) -> None:
    with pytest.raises(QuarantineError, match="prepare_data"):
        counts(lake, Selection())
