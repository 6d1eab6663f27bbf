"""Shards and their manifest."""

from dataclasses import asdict, replace
import hashlib

import numpy as np
import pytest
from safetensors.numpy import load

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.packing import PackedRows
from pixel_pipeline.tokens.shards import (
    FamilyTokens,
    ShardManifest,
    ShardRef,
    SplitManifest,
    TokenizerRef,
    TokenShardsNotFoundError,
    current_manifest_key,
    write_shard,
)

KEY = "tokens/t/v/train-00000.safetensors"
ROWS = PackedRows(
    tokens=np.arange(1, 13, dtype=np.int32).reshape(3, 4),
    loss_mask=np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], np.uint8),
    segments=np.array([[1, 1, 1, 2], [1, 1, 1, 0], [1, 1, 0, 0]], np.int16),
)


def _manifest(*shards: ShardRef) -> ShardManifest:
    return ShardManifest(
        dataset_version="v",
        sequence_length=4,
        tokenizer=TokenizerRef(key="k", sha256="s", digest="t", vocab_size=300, pad_id=0, eos_id=2),
        splits={"train": SplitManifest.of(list(shards)), "test": SplitManifest.of([])},
        families={"calm": FamilyTokens(category="support", conversations=3, tokens=9)},
    )


def test_a_shard_round_trips(lake: Lake) -> None:
    shard = write_shard(lake.data, KEY, ROWS, family="calm")
    assert (shard.rows, shard.tokens, shard.loss_tokens, shard.family) == (3, 9, 3, "calm")
    (stored,) = lake.data.list("tokens")
    assert (stored.key, stored.size) == (KEY, shard.bytes)
    data = lake.data.get(KEY)
    assert hashlib.sha256(data).hexdigest() == shard.sha256
    arrays = load(data)
    assert arrays.keys() == {"tokens", "loss_mask", "segments"}
    for name, array in arrays.items():
        assert array.dtype == getattr(ROWS, name).dtype
        assert np.array_equal(array, getattr(ROWS, name))


def test_a_manifest_round_trips(lake: Lake) -> None:
    manifest = _manifest(
        write_shard(lake.data, KEY, ROWS, family="work"),
        write_shard(lake.data, KEY.replace("0.", "1."), ROWS, family="calm"),
    )
    manifest = replace(manifest, chat_template="base", base="smollm2", base_digest="0f")
    lake.data.put_json("tokens/manifest.json", asdict(manifest))
    assert ShardManifest.load(lake.data, "tokens/manifest.json") == manifest


def test_a_split_totals_its_shards(lake: Lake) -> None:
    shard = write_shard(lake.data, KEY, ROWS, family="work")
    split = SplitManifest.of([shard, replace(shard, rows=5, tokens=11, loss_tokens=2)])
    assert (split.rows, split.tokens, split.loss_tokens) == (8, 20, 5)


def test_a_manifest_of_another_format_is_rejected(lake: Lake) -> None:
    lake.data.put_json("tokens/manifest.json", {**asdict(_manifest()), "format": "pixel-token-shards/0"})
    with pytest.raises(PixelError, match=r"tokens/manifest\.json is not a pixel-token-shards/2 manifest"):
        ShardManifest.load(lake.data, "tokens/manifest.json")


@pytest.mark.parametrize("change", [{"sequence_length": "4"}, {"splits": {"train": {"rows": 1}}}], ids=str)
def test_an_incomplete_manifest_is_rejected(lake: Lake, change: dict[str, object]) -> None:
    lake.data.put_json("tokens/manifest.json", {**asdict(_manifest()), **change})
    with pytest.raises(PixelError, match="lacks fields"):
        ShardManifest.load(lake.data, "tokens/manifest.json")


def test_the_error_of_an_empty_lake_names_the_job(lake: Lake) -> None:
    with pytest.raises(TokenShardsNotFoundError, match="prepare_data") as caught:
        current_manifest_key(lake.data)
    assert keys.CURRENT_TOKENS in str(caught.value)


def test_the_pointer_names_the_current_manifest(lake: Lake) -> None:
    lake.data.put_json(keys.CURRENT_TOKENS, {"manifest": "tokens/t/v/manifest.json"})
    assert current_manifest_key(lake.data) == "tokens/t/v/manifest.json"
