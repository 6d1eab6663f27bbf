"""The registry is a pure function of the curated content."""

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from pixel_pipeline.conversations.families.config import FamilyRule
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.dataset_registry import build
from pixel_pipeline_tests.curation.records import curated

FAMILIES = {
    "calm": FamilyRule(category="priority", family="calm", dataset="calm_2024"),
    "sleep": FamilyRule(category="sleep", family="sleep", dataset="sleep"),
    "unused": FamilyRule(category="unused", family="unused", dataset="unused"),
}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return curated(120)


def registry(lake: Lake, table: pa.Table) -> dict[str, Any]:
    return build(ds.dataset(table), families=FAMILIES, data=lake.data)


def test_counts_and_places(lake: Lake, table: pa.Table) -> None:
    content = registry(lake, table)
    assert content["conversations"] == 120
    assert content["categories"] == ["priority", "sleep"]
    calm, sleep = content["datasets"]
    assert (calm["family"], calm["dataset"], sleep["family"]) == ("calm", "calm_2024", "sleep")
    assert calm["path"] == f"s3://{lake.data.name}/gdrive/processed/priority/calm_2024"
    rows = [row for row in table.to_pylist() if row["family"] == "calm"]
    assert sum(calm["conversations"].values()) == len(rows)
    for split, count in calm["conversations"].items():
        assert count == sum(row["split"] == split for row in rows)
    assert calm["turns"] == sum(len(row["messages"]) for row in rows)
    assert calm["characters"] == sum(len(turn["content"]) for row in rows for turn in row["messages"])


def test_same_content_same_bytes_whatever_the_order(lake: Lake, table: pa.Table) -> None:
    content = registry(lake, table)
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(table.num_rows)))
    again = registry(lake, shuffled)
    assert orjson.dumps(again, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        content, option=orjson.OPT_SORT_KEYS
    )
    assert lake.data.put_json("one", content) == lake.data.put_json("two", again)


def test_no_text_and_no_times(lake: Lake, table: pa.Table) -> None:
    written = orjson.dumps(registry(lake, table)).decode()
    first = table["messages"][0].as_py()[0]["content"]
    assert first not in written
    assert not any(sign in written for sign in ("time", "date", "created"))


def test_version_changes_with_content_and_only_with_it(lake: Lake, table: pa.Table) -> None:
    version = registry(lake, table)["version"]
    # What does not reach training: where a record came from, its metadata.
    untouched = table.set_column(
        table.schema.get_field_index("metadata"),
        table.schema.field("metadata"),
        pa.array(['{"a":1}'] * table.num_rows),
    )
    assert registry(lake, untouched)["version"] == version
    changes = [table.slice(1), respaced(table), swapped_splits(table)]
    versions = [registry(lake, changed)["version"] for changed in changes]
    assert len({version, *versions}) == 4


def respaced(table: pa.Table) -> pa.Table:
    """One space more in one message: no other content hash, but other tokens."""
    rows = table.to_pylist()
    rows[0]["messages"][0]["content"] += " "
    return pa.Table.from_pylist(rows, schema=table.schema)


def swapped_splits(table: pa.Table) -> pa.Table:
    """Two conversations of a family in each other's split: every count stays."""
    rows = table.to_pylist()
    train, held_out = (
        next(row for row in rows if row["family"] == "calm" and (row["split"] == "train") is wanted)
        for wanted in (True, False)
    )
    train["split"], held_out["split"] = held_out["split"], train["split"]
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_families_without_curated_conversations_are_left_out(lake: Lake, table: pa.Table) -> None:
    calm = table.filter(pc.equal(table["family"], "calm"))
    assert [entry["family"] for entry in registry(lake, calm)["datasets"]] == ["calm"]
    empty = registry(lake, table.slice(0, 0))
    assert (empty["datasets"], empty["conversations"]) == ([], 0)
