"""From a curated table to shards: the same input gives the same bytes, anywhere."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table
from pixel_pipeline.tokens import build
from pixel_pipeline.tokens.build import NothingToTrainOnError, TokenConfig, build_shards
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key, read_shard
from pixel_pipeline.tokens.tokenizer import deserialize
from pixel_pipeline_tests.curation.records import curated

CONFIG = TokenConfig(vocab_size=400, sequence_length=96, seed=3)
BUILD = """
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table
from pixel_pipeline.settings import get_settings
from pixel_pipeline.tokens.build import build_shards
from pixel_pipeline_tests.tokens.test_build import CONFIG

lake = Lake.open(get_settings())
build_shards(Table(lake, "curated").dataset(), bucket=lake.checkpoints, dataset_version="v1", config=CONFIG)
"""


def objects(lake: Lake, bucket: str = "data") -> dict[str, bytes]:
    store = getattr(lake, bucket)
    return {item.key: store.get(item.key) for item in store.list("tokens")}


@pytest.fixture
def table(lake: Lake) -> pa.Table:
    """300 conversations of two families, also stored as the lake's curated table."""
    rows = curated(300)
    Table(lake, "curated").overwrite(rows, partition_by="family")
    return rows


def test_same_input_same_bytes_here_and_in_another_process(lake: Lake, table: pa.Table) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", BUILD], env={**os.environ, "PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "3"}
    )
    key = build_shards(ds.dataset(table), bucket=lake.data, dataset_version="v1", config=CONFIG)
    first = objects(lake)
    assert key in first
    assert current_manifest_key(lake.data) == key
    # Another order of rows, another layout of files.
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    build_shards(ds.dataset(shuffled), bucket=lake.data, dataset_version="v1", config=CONFIG)
    assert objects(lake) == first
    assert other.wait() == 0
    assert objects(lake, "checkpoints") == first


def test_the_manifest_tells_the_truth(lake: Lake, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    # Several shards for the training split.
    monkeypatch.setattr(build, "ROWS_PER_SHARD", 40)
    key = build_shards(ds.dataset(table), bucket=lake.data, dataset_version="v1", config=CONFIG)
    manifest = ShardManifest.load(lake.data, key)
    tokenizer = deserialize(lake.data.get(manifest.tokenizer.key))
    assert set(manifest.splits) == {"train", "validation", "test"}
    assert len(manifest.splits["train"].shards) > 1
    tokens_by_family = dict.fromkeys(manifest.families, 0)
    texts: dict[str, str] = {}
    for name, split in manifest.splits.items():
        families = [shard.family for shard in split.shards]
        assert set(families) == ({None} if name == "train" else {"calm", "sleep"})
        for shard in split.shards:
            arrays = read_shard(lake.data, shard)
            assert arrays["tokens"].shape == (shard.rows, CONFIG.sequence_length)
            assert int((arrays["segments"] > 0).sum()) == shard.tokens
            assert int(arrays["loss_mask"].sum()) == shard.loss_tokens
            assert arrays["tokens"].max() < manifest.tokenizer.vocab_size
            if shard.family is not None:
                tokens_by_family[shard.family] += shard.tokens
                rows = arrays["tokens"][arrays["segments"] > 0]
                texts[f"{name} {shard.family}"] = tokenizer.decode(rows.tolist(), skip_special_tokens=False)
        for figure in ("rows", "tokens", "loss_tokens"):
            assert getattr(split, figure) == sum(getattr(shard, figure) for shard in split.shards)
    assert sum(split.tokens for split in manifest.splits.values()) == sum(
        family["tokens"] for family in manifest.families.values()
    )
    assert {name: family["conversations"] for name, family in manifest.families.items()} == {
        "calm": 150,
        "sleep": 150,
    }
    # Held-out shards hold their own family's conversations of their own split, whole.
    for place, text in texts.items():
        split_name, family = place.split()
        wanted = table.filter(
            pc.and_(pc.equal(table["split"], split_name), pc.equal(table["family"], family))
        )
        questions = [messages[0]["content"] for messages in wanted["messages"].to_pylist()]
        assert text.count("<|im_start|>user\n") == len(questions)
        assert all(question in text for question in questions)


def test_all_that_determines_the_shards_is_in_their_keys(lake: Lake, table: pa.Table) -> None:
    """A trainer that reads old shards must never find new ones under their keys."""
    keys = {
        build_shards(ds.dataset(table), bucket=lake.data, dataset_version=version, config=config)
        for version, config in (
            ("v1", CONFIG),
            ("v2", CONFIG),
            ("v1", TokenConfig(vocab_size=300, sequence_length=96, seed=3)),
            ("v1", TokenConfig(vocab_size=400, sequence_length=64, seed=3)),
            ("v1", TokenConfig(vocab_size=400, sequence_length=96, seed=4)),
        )
    }
    assert len(keys) == 5


def test_a_failed_build_leaves_the_current_shards(
    lake: Lake, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = build_shards(ds.dataset(table), bucket=lake.data, dataset_version="v1", config=CONFIG)

    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(build, "write_shard", broken)
    with pytest.raises(RuntimeError, match="planted"):
        build_shards(ds.dataset(table), bucket=lake.data, dataset_version="v2", config=CONFIG)
    assert current_manifest_key(lake.data) == key


def test_no_training_split_is_told(lake: Lake, table: pa.Table) -> None:
    held_out = table.filter(pc.not_equal(table["split"], "train"))
    with pytest.raises(NothingToTrainOnError, match="training split"):
        build_shards(ds.dataset(held_out), bucket=lake.data, dataset_version="v1", config=CONFIG)
