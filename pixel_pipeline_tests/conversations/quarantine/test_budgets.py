"""Which sources are beyond their budget, told from the ledger alone."""

import re
from typing import Any

import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.conversations.families.config import FamilyConfig, FamilyRule
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.schema import LEDGER_SCHEMA
from pixel_pipeline.conversations.quarantine.budgets import (
    SMALL_BYTES,
    SMALL_RECORDS,
    beyond_budget,
    find_beyond_budget,
)
from pixel_pipeline.lake.lake import Lake

STRICT = FamilyRule("c", "strict", "d", ConversionOptions(max_bad_share=0.01, max_bad_run=3))
CONFIG = FamilyConfig(((re.compile("gdrive/raw/Strict/.*"), STRICT),))


def row(key: str, *, bad: int, records: int, run: int = 1, **besides: Any) -> dict[str, Any]:
    return {
        "source_key": f"gdrive/raw/{key}",
        "etag": "e",
        "family": "f",
        "container": "json_lines",
        "formats": "{}",
        "encoding": "utf-8",
        "bytes": 1_000,
        "records_in": records,
        "records_out": records - bad,
        "quarantined": bad,
        "dropped": "{}",
        "repaired": "{}",
        "code_version": "v",
        "errors": orjson.dumps({"bad_json": bad} if bad else {}).decode(),
        "unlisted": 0,
        "longest_bad_run": run if bad else 0,
        "first_bad_run": 0,
        "last_bad_run": 0,
        **besides,
    }


def beyond(*rows: dict[str, Any]) -> dict[str, str | None]:
    found = find_beyond_budget(pa.Table.from_pylist(list(rows), schema=LEDGER_SCHEMA), CONFIG)
    return {source.source.removeprefix("gdrive/raw/"): source.excess() for source in found}


def test_each_object_has_the_budget_of_its_rule() -> None:
    assert beyond(
        row("A/half.jsonl", bad=50, records=100),
        row("A/most.jsonl", bad=51, records=100),
        row("A/good.jsonl", bad=0, records=100),
        row("A/row.jsonl", bad=1_001, records=9_000, run=1_001),
        row("Strict/few.jsonl", bad=2, records=100),
        row("Strict/both.jsonl", bad=30, records=100, run=4),
    ) == {
        "A/row.jsonl": "1,001 in a row, 1,000 allowed",
        "A/most.jsonl": "51.0%, 50.0% allowed",
        "Strict/both.jsonl": "30.0%, 1.0% allowed; 4 in a row, 3 allowed",
        "Strict/few.jsonl": "2.0%, 1.0% allowed",
    }


def test_small_objects_are_judged_with_their_folder() -> None:
    bad = {"bad": 1, "records": 1, "first_bad_run": 1, "last_bad_run": 1}
    good = {"bad": 0, "records": 1}
    mostly_good = [row(f"Talks/{n:03d}.txt", **(bad if n < 9 else good)) for n in range(100)]
    assert beyond(*mostly_good) == {}
    rotten = [row(f"Rotten/{n:03d}.txt", **(good if n < 9 else bad)) for n in range(100)]
    assert beyond(*mostly_good, *rotten) == {"Rotten/": "91.0%, 50.0% allowed"}
    in_a_row = [row(f"Strict/{n:04d}.txt", **(bad if n in (5, 6, 7, 8) else good)) for n in range(1_000)]
    assert beyond(*in_a_row) == {"Strict/": "4 in a row, 3 allowed"}


@pytest.mark.parametrize("size", [{"records": SMALL_RECORDS}, {"records": 1, "bytes": SMALL_BYTES}])
def test_a_large_object_among_small_ones_is_judged_alone(size: dict[str, Any]) -> None:
    small = [row(f"Talks/{n:03d}.txt", bad=0, records=1) for n in range(100)]
    assert beyond(*small, row("Talks/all.zip", bad=size["records"], **size)) == {
        "Talks/all.zip": "100.0%, 50.0% allowed"
    }


def test_an_unlisted_part_is_reported_even_if_the_object_is_within_its_budget() -> None:
    excess = "a part of it exceeds the budget; 30 records are not listed one by one"
    assert beyond(row("A/long.jsonl", bad=300, records=9_000, unlisted=30)) == {"A/long.jsonl": excess}


def test_the_worst_sources_come_first_with_all_excesses() -> None:
    errors = orjson.dumps({"bad_json": 60, "empty_turn": 30}).decode()
    rows = [row("A/a", bad=60, records=100), row("A/b", bad=90, records=100, errors=errors)]
    found = find_beyond_budget(pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA), CONFIG)
    assert [source.source for source in found] == ["gdrive/raw/A/b", "gdrive/raw/A/a"]
    assert (found[0].family, found[0].objects, found[0].runs.records) == ("f", 1, 100)
    assert found[0].errors == {"bad_json": 60, "empty_turn": 30}


def test_ledger_rows_without_error_counts_are_judged_by_share() -> None:
    old = dict.fromkeys(("errors", "unlisted", "longest_bad_run", "first_bad_run", "last_bad_run"))
    assert beyond(row("A/a", bad=60, records=100, **old)) == {"A/a": "60.0%, 50.0% allowed"}


def test_an_empty_lake_is_within_its_budget(lake: Lake) -> None:
    assert beyond_budget(lake, CONFIG) == []
