"""Shards, their local copies, and loaders."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load
import torch

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config.curriculum import Curriculum
from pixel_pipeline.training.data.cache import cached_object
from pixel_pipeline.training.data.dataset import ShardDataset, rows_by_family, training_loader
from pixel_pipeline.training.data.row_order import RowOrder
from pixel_pipeline.training.errors import TrainingDataError
from pixel_pipeline_tests.training.shards import CATEGORIES, FAMILIES


@pytest.mark.parametrize("done", [0, 3])
def test_a_loader_starts_at_any_step(lake: Lake, manifest_key: str, cache: Path, done: int) -> None:
    manifest = ShardManifest.load(lake.data, manifest_key)
    dataset = ShardDataset(manifest, split="train", bucket=lake.data, cache=cache)
    assert dataset.categories == CATEGORIES
    order = RowOrder(dataset.families, curriculum=Curriculum(), steps=5, rows_per_step=4, seed=1)
    loader = training_loader(dataset, order=order, start_step=done)
    assert len(loader) == 5 - done
    for step, batch in enumerate(loader, done):
        rows = [dataset[index] for index in order.rows(step)]
        assert torch.equal(batch.tokens, torch.stack([row.tokens for row in rows]).long())
        assert batch.families == tuple(dataset.families[index] for index in order.rows(step))
        assert batch.to(torch.device("cpu")).families == batch.families
    assert step == 4


def test_rows_equal_the_shards(lake: Lake, manifest_key: str, cache: Path) -> None:
    manifest = ShardManifest.load(lake.data, manifest_key)
    dataset = ShardDataset(manifest, split="train", bucket=lake.data, cache=cache)
    arrays = [load(lake.data.get(shard.key)) for shard in manifest.splits["train"].shards]
    for column, name in enumerate(("tokens", "loss_mask", "segments")):
        expected = np.concatenate([shard[name] for shard in arrays])
        got = np.stack([dataset[index][column].numpy() for index in range(len(dataset))])
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_shards_are_downloaded_once_and_verified_at_each_use(
    lake: Lake, manifest_key: str, cache: Path
) -> None:
    shard = ShardManifest.load(lake.data, manifest_key).splits["train"].shards[0]
    path = cached_object(lake.data, shard.key, sha256=shard.sha256, folder=cache)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert cached_object(lake.data, shard.key, sha256=shard.sha256, folder=cache).read_bytes() == good
    lake.data.delete([shard.key])
    assert cached_object(lake.data, shard.key, sha256=shard.sha256, folder=cache) == path


def test_a_changed_shard_is_refused(lake: Lake, manifest_key: str, cache: Path) -> None:
    manifest = ShardManifest.load(lake.data, manifest_key)
    shard = manifest.splits["train"].shards[0]
    lake.data.put(shard.key, lake.data.get(shard.key)[:-1] + b"\xff")
    with pytest.raises(TrainingDataError, match=r"train-calm-00000\.safetensors has SHA-256"):
        ShardDataset(manifest, split="train", bucket=lake.data, cache=cache)
    assert not any(cache.iterdir())


def test_held_out_rows_cover_the_families(lake: Lake, manifest_key: str, cache: Path) -> None:
    manifest = ShardManifest.load(lake.data, manifest_key)
    dataset = ShardDataset(manifest, split="validation", bucket=lake.data, cache=cache)
    rows = rows_by_family(dataset, limit=7)
    assert [*rows] == [*FAMILIES]
    assert sorted(map(len, rows.values())) == [2, 2, 3]
    assert all(dataset.families[index] == family for family, indices in rows.items() for index in indices)
    everything = rows_by_family(dataset, limit=10**6)
    assert Counter(index for indices in everything.values() for index in indices) == Counter(
        range(len(dataset))
    )


def test_a_missing_split_is_reported(lake: Lake, manifest_key: str, cache: Path) -> None:
    with pytest.raises(TrainingDataError, match="Split 'dev'"):
        ShardDataset(ShardManifest.load(lake.data, manifest_key), split="dev", bucket=lake.data, cache=cache)
