"""Shards and their manifest: what was written is what is read, or it is refused."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.store import Lake, ObjectNotFoundError
from pixel_pipeline.tokens.packing import PackedRows
from pixel_pipeline.tokens.shards import (
    CorruptShardError,
    ShardManifest,
    ShardRef,
    SplitManifest,
    TokenizerRef,
    TokenShardsNotFoundError,
    current_manifest_key,
    read_shard,
    write_shard,
)

ROWS = PackedRows(
    tokens=np.array([[1, 5, 6, 0], [1, 7, 8, 9]], np.int32),
    loss_mask=np.array([[0, 1, 1, 0], [0, 0, 1, 1]], np.uint8),
    segments=np.array([[1, 1, 1, 0], [1, 1, 2, 2]], np.int16),
)


def shard(lake: Lake, key: str = "tokens/a.safetensors") -> ShardRef:
    return write_shard(lake.data, key, ROWS, family="calm")


def test_a_shard_comes_back_as_it_was(lake: Lake) -> None:
    written = shard(lake)
    assert (written.rows, written.tokens, written.loss_tokens) == (2, 7, 4)
    assert written.bytes == next(iter(lake.data.list("tokens"))).size
    arrays = read_shard(lake.data, written)
    for name in ("tokens", "loss_mask", "segments"):
        expected = getattr(ROWS, name)
        assert arrays[name].dtype == expected.dtype
        assert (arrays[name] == expected).all()


def test_a_shard_is_the_same_bytes_each_time(lake: Lake) -> None:
    assert shard(lake, "tokens/a").sha256 == shard(lake, "tokens/b").sha256


def test_a_damaged_shard_is_refused(lake: Lake) -> None:
    written = shard(lake)
    data = bytearray(lake.data.get(written.key))
    data[-1] ^= 1
    lake.data.put(written.key, bytes(data))
    with pytest.raises(CorruptShardError, match=f"s3://{lake.data.name}/{written.key}"):
        read_shard(lake.data, written)
    lake.data.put(written.key, bytes(data[:-5]))
    with pytest.raises(CorruptShardError):
        read_shard(lake.data, written)
    lake.data.delete([written.key])
    with pytest.raises(ObjectNotFoundError):
        read_shard(lake.data, written)


def test_a_manifest_that_does_not_fit_its_shard_is_noticed(lake: Lake) -> None:
    with pytest.raises(CorruptShardError, match="rows"):
        read_shard(lake.data, replace(shard(lake), rows=3))


def test_manifest_round_trip(lake: Lake) -> None:
    shards = [shard(lake, "tokens/a"), shard(lake, "tokens/b")]
    manifest = ShardManifest(
        dataset_version="v",
        sequence_length=4,
        tokenizer=TokenizerRef(key="t", sha256="s", digest="d", vocab_size=10, pad_id=0, eos_id=2),
        splits={"train": SplitManifest.of(shards), "validation": SplitManifest.of([])},
        families={"calm": {"conversations": 3, "tokens": 14}},
    )
    assert (manifest.splits["train"].rows, manifest.splits["train"].tokens) == (4, 14)
    assert manifest.splits["train"].loss_tokens == 8
    lake.data.put_json("tokens/manifest.json", asdict(manifest))
    assert ShardManifest.load(lake.data, "tokens/manifest.json") == manifest


def test_another_format_is_refused(lake: Lake) -> None:
    lake.data.put_json("tokens/manifest.json", {"format": "pixel-token-shards/2"})
    with pytest.raises(PixelError, match=r"tokens/manifest\.json"):
        ShardManifest.load(lake.data, "tokens/manifest.json")


def test_a_lake_without_tokens_says_what_to_run(lake: Lake) -> None:
    with pytest.raises(TokenShardsNotFoundError, match="prepare_data"):
        current_manifest_key(lake.data)
