"""`pixel detect` on the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pixel_pipeline.cli import app
from pixel_pipeline.cli.console import out
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.loader.resolution import DatasetNotFoundError
from pixel_pipeline_tests.conversations.converted import lines, sharegpt

RULES = """
rules:
  - match: "**/Diaries/**"
    family: diaries
    category: priority
    dataset: diary
    read: {one_sided: keep}
"""
ALONE = {"conversations": [{"from": "human", "value": "Dear diary, secret words"}]}


def pixel(*arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        # The console reads its width from the environment when it is created.
        patch.setattr(out, "_width", 200)
        result = CliRunner().invoke(app, ["detect", *arguments])
    if isinstance(result.exception, PixelError):
        raise result.exception
    assert "secret words" not in result.output
    return result


@pytest.fixture
def families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "families.yaml"
    path.write_text(RULES)
    monkeypatch.setenv("PIXEL_FAMILIES_FILE", str(path))
    return path


@pytest.fixture
def diary(tmp_path: Path, families: Path) -> Path:
    path = tmp_path / "diary.jsonl"
    path.write_bytes(lines(sharegpt("secret words", "b"), ALONE, ALONE, {"odd": 1}))
    return path


def shown(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines() if line.strip()]


def test_a_local_file_needs_no_lake(diary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", "https://nowhere.invalid")
    result = pixel(str(diary))
    assert result.exit_code == 0, result.output
    text = shown(result)
    assert "is container json_lines 4 of the first 4 lines are JSON values of their own" in text
    assert "encoding utf-8 ASCII alone" in text
    assert "format sharegpt 3 of 4 records, 75%" in text
    assert "unrecognised 1 of 4 records, 25%" in text
    assert "could be json_document its first brace is followed by a key; json_lines takes precedence" in text
    assert "records 3 × {conversations: 1–2 × {from: text, value: text}}" in text
    assert "speakers human 3, gpt 1" in text
    assert "becomes 1 conversation of 2 turns: user 1, assistant 1" in text
    assert "2 quarantined, one_sided: expected user and assistant turns, found user (2 ×)" in text
    assert any("unsorted/unsorted" in line and "acquired/diary.jsonl" in line for line in text)


def test_a_key_tries_a_rule(diary: Path) -> None:
    text = shown(pixel(str(diary), "--key", "gdrive/raw/Diaries/diary.jsonl"))
    assert "becomes 3 conversations of 1 to 2 turns, median 1: user 3, assistant 1" in text
    assert any("priority/diary" in line and "rule 1 of families.yaml matches" in line for line in text)
    assert "one_sided keep, set by the rule" in text


def test_json_is_one_document(diary: Path) -> None:
    result = pixel(str(diary), "--json", "--key", "gdrive/raw/Diaries/diary.jsonl")
    document = json.loads(result.stdout)
    assert document["rule"]["number"] == 1
    assert document["rule"]["place"] == ["priority", "diaries", "diary"]
    assert document["rule"]["options"]["one_sided"] == "keep"
    assert document["detection"]["votes"] == {"sharegpt": 3, "unrecognised": 1}
    assert document["formats"] == [{"name": "sharegpt", "matches": 3, "votes": 3, "before": []}]
    assert document["shapes"][0]["records"] == 3
    assert (document["records"], document["converted"]) == (4, 3)


def test_an_object_of_the_lake_by_key_and_by_uri(lake: Lake, families: Path) -> None:
    key = "gdrive/raw/Diaries/2024.jsonl"
    lake.data.put(key, lines(ALONE, ALONE))
    for name in (key, lake.data.uri(key)):
        text = shown(pixel(name))
        assert text[0].startswith(lake.data.uri(key))
        assert "becomes 2 conversations of 1 turn: user 2" in text
        assert any("priority/diary" in line for line in text)
        assert "try another one with --key" not in str(text)


def test_a_missing_file_is_an_error(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError):
        pixel("gdrive/raw/none.jsonl")
    with pytest.raises(DatasetNotFoundError):
        pixel(str(tmp_path / "none.jsonl"))
    with pytest.raises(PixelError, match="is a folder"):
        pixel(str(tmp_path))


def test_a_file_that_is_no_dataset(tmp_path: Path, families: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# secret words")
    text = shown(pixel(str(path)))
    assert "is container other its name is that of a read-me, a licence, a configuration or a program" in text
    assert "becomes 1 dropped, not_a_dataset" in text
    assert "not recognised" not in str(text)
