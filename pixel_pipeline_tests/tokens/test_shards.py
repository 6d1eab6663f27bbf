"""Shards and their manifest: what is read is what was written, or an error says so."""

from dataclasses import asdict, replace
import hashlib

import numpy as np
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.packing import PackedRows
from pixel_pipeline.tokens.shards import (
    CorruptShardError,
    FamilyTokens,
    ShardManifest,
    ShardRef,
    SplitManifest,
    TokenizerRef,
    TokenShardsNotFoundError,
    current_manifest_key,
    read_shard,
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


def test_a_shard_comes_back_as_it_was(lake: Lake) -> None:
    shard = write_shard(lake.data, KEY, ROWS, family="calm")
    assert (shard.rows, shard.tokens, shard.loss_tokens, shard.family) == (3, 9, 3, "calm")
    (stored,) = lake.data.list("tokens")
    assert (stored.key, stored.size) == (KEY, shard.bytes)
    arrays = read_shard(lake.data, shard)
    assert arrays.keys() == {"tokens", "loss_mask", "segments"}
    for name, array in arrays.items():
        assert array.dtype == getattr(ROWS, name).dtype
        assert np.array_equal(array, getattr(ROWS, name))


def test_a_corrupt_shard_is_refused_by_name(lake: Lake) -> None:
    shard = write_shard(lake.data, KEY, ROWS, family="work")
    whole = lake.data.get(KEY)
    for damaged in (whole[:-1], whole[:-4] + b"\0\0\0\1", b"", b"{}"):
        lake.data.put(KEY, damaged)
        with pytest.raises(CorruptShardError, match=KEY):
            read_shard(lake.data, shard)


def test_bytes_that_the_manifest_names_but_are_no_shard_are_refused(lake: Lake) -> None:
    shard = write_shard(lake.data, KEY, ROWS, family="work")
    with pytest.raises(CorruptShardError, match="rows"):
        read_shard(lake.data, replace(shard, rows=4))
    text = b"no safetensors at all"
    lake.data.put(KEY, text)
    with pytest.raises(CorruptShardError, match="is no safetensors file"):
        read_shard(lake.data, replace(shard, sha256=hashlib.sha256(text).hexdigest()))


def test_a_manifest_comes_back_as_it_was(lake: Lake) -> None:
    manifest = _manifest(
        write_shard(lake.data, KEY, ROWS, family="work"),
        write_shard(lake.data, KEY.replace("0.", "1."), ROWS, family="calm"),
    )
    manifest = replace(manifest, chat_template="base", base="smollm2", base_digest="0f")
    lake.data.put_json("tokens/manifest.json", asdict(manifest))
    assert ShardManifest.load(lake.data, "tokens/manifest.json") == manifest


def test_a_split_sums_up_its_shards(lake: Lake) -> None:
    shard = write_shard(lake.data, KEY, ROWS, family="work")
    split = SplitManifest.of([shard, replace(shard, rows=5, tokens=11, loss_tokens=2)])
    assert (split.rows, split.tokens, split.loss_tokens) == (8, 20, 5)


def test_a_manifest_of_another_format_is_refused(lake: Lake) -> None:
    lake.data.put_json("tokens/manifest.json", {**asdict(_manifest()), "format": "pixel-token-shards/0"})
    with pytest.raises(PixelError, match=r"tokens/manifest\.json is no pixel-token-shards/2 manifest"):
        ShardManifest.load(lake.data, "tokens/manifest.json")


def test_an_empty_lake_says_what_to_run(lake: Lake) -> None:
    with pytest.raises(TokenShardsNotFoundError, match="prepare_data") as caught:
        current_manifest_key(lake.data)
    assert keys.CURRENT_TOKENS in str(caught.value)


def test_the_pointer_leads_to_the_manifest(lake: Lake) -> None:
    lake.data.put_json(keys.CURRENT_TOKENS, {"manifest": "tokens/t/v/manifest.json"})
    assert current_manifest_key(lake.data) == "tokens/t/v/manifest.json"
