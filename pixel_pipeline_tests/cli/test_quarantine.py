"""`pixel quarantine` on the command line: only `show --raw` prints conversation text."""

import io
import json
import zipfile

import pytest
from typer.testing import CliRunner, Result

from pixel_pipeline.cli import app
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline_tests.conversations.converted import lines, sharegpt
from pixel_pipeline_tests.conversations.lakes import convert_all

KEY = "gdrive/raw/Calm/a.jsonl"
BROKEN = b'{"secret words'


def pixel(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["quarantine", *arguments])
    if isinstance(result.exception, PixelError):
        raise result.exception
    return result


@pytest.fixture
def refused(lake: Lake) -> Lake:
    lake.data.put(KEY, lines(sharegpt("secret words", "b"), BROKEN, *[{"odd": 1}] * 3))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("\x1b[2Jname.jsonl", lines(sharegpt("a", "b"), BROKEN, sharegpt("c", "d")))
    lake.data.put("gdrive/raw/Zip/a.zip", archive.getvalue())
    convert_all(lake)
    return lake


def test_list_counts_by_family_object_and_error(refused: Lake) -> None:
    result = pixel("list")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "calm  4 records",
        f"        1  bad_json                {KEY}",
        f"        3  unrecognised_schema     {KEY}",
        "zip  1 record",
        "        1  bad_json                gdrive/raw/Zip/a.zip",
    ]
    assert "5 quarantined records: unrecognised_schema 3, bad_json 2" in result.stderr
    assert "and 1 more line:" in pixel("list", "--limit", "2").stderr
    document = json.loads(pixel("list", "--family", "calm", "--error", "bad_json", "--json").stdout)
    assert document == {
        "records": 1,
        "errors": {"bad_json": 1},
        "families": {"calm": 1},
        "objects": [{"family": "calm", "source_key": KEY, "error_class": "bad_json", "records": 1}],
    }
    assert json.loads(pixel("list", "--key", "**/none", "--json").stdout)["objects"] == []


def test_each_record_is_listed_and_shown(refused: Lake) -> None:
    listed = pixel("list", "--records", "--family", "calm").stdout.splitlines()
    assert len(listed) == 4
    assert f"{KEY}, byte {len(lines(sharegpt('secret words', 'b')))}: not valid JSON" in listed[0]
    record_id = listed[0].split()[0]
    shown = pixel("show", record_id)
    document = json.loads(pixel("show", record_id, "--json").stdout)
    assert document["id"] == record_id
    assert document["error_class"] == "bad_json"
    assert document["raw_size"] == len(BROKEN)
    assert json.loads(pixel("list", "--records", "--json").stdout)[0] == document
    for name, value in document.items():
        assert value is None or f"{name:>13}  {value}" in shown.stdout
    for result in (shown, pixel("list"), pixel("list", "--records"), pixel("list", "--records", "--json")):
        assert "secret words" not in result.output


def test_raw_prints_only_the_bytes(refused: Lake) -> None:
    position = str(len(lines(sharegpt("secret words", "b"))))
    result = pixel("show", KEY, "--position", position, "--raw")
    assert result.stdout_bytes == BROKEN
    assert "conversation text" in result.stderr
    with pytest.raises(PixelError, match="exclude each other"):
        pixel("show", KEY, "--position", position, "--raw", "--json")


def test_control_characters_in_names_are_escaped(refused: Lake) -> None:
    output = (
        pixel("list", "--records", "--family", "zip").output + pixel("show", "gdrive/raw/Zip/a.zip").output
    )
    assert "\\x1b[2Jname.jsonl" in output
    assert "\x1b[2J" not in output
