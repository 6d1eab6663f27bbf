"""`pixel families` on the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pixel_pipeline.cli import app
from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.tables.table import Table

RULES = """\
rules:
  - match: "gdrive/raw/Calm/**"
    category: professional_therapeutic
    family: calm
  - match: "gdrive/raw/Gone/**"
    family: gone
"""


def pixel(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["families", *arguments])
    if isinstance(result.exception, PixelError):
        raise result.exception
    assert result.exit_code == 0
    return result


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "families.yaml"
    path.write_text(RULES)
    monkeypatch.setenv("PIXEL_FAMILIES_FILE", str(path))
    return path


@pytest.fixture
def listed(lake: Lake, rules: Path) -> Lake:
    names = (
        "gdrive/raw/Calm/a",
        "acquired/calm/b",
        "gdrive/raw/x",
        "gdrive/raw/Dump/cptsd 1",
        "gdrive/raw/Dump/c",
    )
    for name in names:
        lake.data.put(name, b"abc")
    Table(lake, keys.INVENTORY).overwrite(list_raw(lake).objects)
    return lake


def test_list_shows_the_rule_of_each_family(listed: Lake) -> None:
    found = {family.pop("family"): family for family in json.loads(pixel("list", "--json").stdout)}
    assert [*found] == ["calm", "dump", "gone", "unsorted"]
    assert found["calm"] == {
        "category": "professional_therapeutic",
        "dataset": "calm",
        "objects": 2,
        "bytes": 6,
        "rules": [1],
        "by_rule": 1,
        "why": "rule 1, its folder",
    }
    assert [family["why"] for family in found.values()] == [
        "rule 1, its folder",
        "its folder",
        "rule 2",
        "in no folder",
    ]
    assert found["gone"]["objects"] == 0
    shown = pixel("list").stdout
    assert "professional_therapeutic" in shown
    assert "rule 1, its folder" in shown


def test_suggestions_can_be_pasted_below_the_rules(listed: Lake, rules: Path) -> None:
    result = pixel("suggest")
    assert "1 rule for 1 object; the names of 2 other objects suggest no category" in result.stderr
    assert "below the rules" in result.stderr
    rules.write_text(RULES + result.stdout)
    assert FamilyConfig.load(rules).classify("gdrive/raw/Dump/cptsd 1").place == (
        "cptsd",
        "dump_cptsd",
        "dump_cptsd",
    )
    document = json.loads(pixel("suggest", "--json").stdout)
    assert document["rules"] == []
    assert {left["place"] for left in document["unnamed"]} == {"gdrive/raw/", "gdrive/raw/Dump/"}


def test_without_rules_the_suggestions_are_a_whole_file(listed: Lake, rules: Path) -> None:
    rules.write_text("rules: []\n")
    result = pixel("suggest")
    assert "in place of `rules: []`" in result.stderr
    rules.write_text(result.stdout)
    assert len(FamilyConfig.load(rules).rules) == 1


def test_a_missing_inventory_names_the_job(lake: Lake, rules: Path) -> None:
    with pytest.raises(PixelError, match="refresh_inventory"):
        pixel("suggest")
