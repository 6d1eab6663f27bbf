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
from pixel_pipeline_tests.curation.rows import curated

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


def test_counts_and_paths(lake: Lake, table: pa.Table) -> None:
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


def test_the_same_content_in_any_order_gives_the_same_bytes(lake: Lake, table: pa.Table) -> None:
    content = registry(lake, table)
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(table.num_rows)))
    again = registry(lake, shuffled)
    assert orjson.dumps(again, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        content, option=orjson.OPT_SORT_KEYS
    )
    assert lake.data.put_json("one", content) == lake.data.put_json("two", again)


def test_the_registry_contains_no_text_and_no_times(lake: Lake, table: pa.Table) -> None:
    written = orjson.dumps(registry(lake, table)).decode()
    first = table["messages"][0].as_py()[0]["content"]
    assert first not in written
    assert not any(word in written for word in ("time", "date", "created"))


def test_the_version_changes_only_with_the_content(lake: Lake, table: pa.Table) -> None:
    version = registry(lake, table)["version"]
    # Metadata does not reach training.
    same_content = table.set_column(
        table.schema.get_field_index("metadata"),
        table.schema.field("metadata"),
        pa.array(['{"a":1}'] * table.num_rows),
    )
    assert registry(lake, same_content)["version"] == version
    changes = [table.slice(1), respaced(table), swapped_splits(table)]
    versions = [registry(lake, changed)["version"] for changed in changes]
    assert len({version, *versions}) == 4


def respaced(table: pa.Table) -> pa.Table:
    """Add a space to a message, which changes its tokens but not its content hash."""
    rows = table.to_pylist()
    rows[0]["messages"][0]["content"] += " "
    return pa.Table.from_pylist(rows, schema=table.schema)


def swapped_splits(table: pa.Table) -> pa.Table:
    """Swap the splits of two conversations of a family, which keeps every count."""
    rows = table.to_pylist()
    train, held_out = (
        next(row for row in rows if row["family"] == "calm" and (row["split"] == "train") is in_train)
        for in_train in (True, False)
    )
    train["split"], held_out["split"] = held_out["split"], train["split"]
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_families_without_curated_conversations_are_left_out(lake: Lake, table: pa.Table) -> None:
    calm = table.filter(pc.equal(table["family"], "calm"))
    assert [entry["family"] for entry in registry(lake, calm)["datasets"]] == ["calm"]
    empty = registry(lake, table.slice(0, 0))
    assert (empty["datasets"], empty["conversations"]) == ([], 0)
