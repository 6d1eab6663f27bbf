"""Row order, shards and their local copies."""

from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from pixel_pipeline.lake.store import Lake
from pixel_pipeline.tokens.shards import ShardManifest, read_shard
from pixel_pipeline.training.data import ShardDataset, StepSampler, rows_by_family
from pixel_pipeline.training.errors import TrainingDataError
from pixel_pipeline.training.shard_cache import cached_object
from pixel_pipeline_tests.training.shards import FAMILIES


def batches(rows: int, rows_per_step: int, start: int, end: int, *, seed: int = 5) -> list[list[int]]:
    return [*StepSampler(rows, rows_per_step=rows_per_step, seed=seed, start_step=start, end_step=end)]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40), rows_per_step=st.integers(1, 9), done=st.integers(0, 20), left=st.integers(0, 20)
)
def test_a_resumed_run_reads_the_same_rows(rows: int, rows_per_step: int, done: int, left: int) -> None:
    whole = batches(rows, rows_per_step, 0, done + left)
    assert batches(rows, rows_per_step, 0, done) + batches(rows, rows_per_step, done, done + left) == whole
    seen = [row for batch in whole for row in batch]
    for start in range(0, len(seen) - rows + 1, rows):
        assert sorted(seen[start : start + rows]) == [*range(rows)]
    assert all(len(batch) == rows_per_step for batch in whole)


def test_each_epoch_and_seed_has_its_own_order() -> None:
    (first,), (second,) = batches(30, 30, 0, 1), batches(30, 30, 1, 2)
    assert first != second
    assert batches(30, 30, 0, 1, seed=6) != [first]


def test_rows_are_those_of_the_shards(lake: Lake, manifest_key: str, cache: Path) -> None:
    manifest = ShardManifest.load(lake.data, manifest_key)
    dataset = ShardDataset(manifest, split="train", bucket=lake.data, cache=cache)
    arrays = [read_shard(lake.data, shard) for shard in manifest.splits["train"].shards]
    for column, name in enumerate(("tokens", "loss_mask", "segments")):
        expected = np.concatenate([shard[name] for shard in arrays])
        got = np.stack([dataset[index][column].numpy() for index in range(len(dataset))])
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_shards_are_downloaded_once_and_checked_each_time(lake: Lake, manifest_key: str, cache: Path) -> None:
    shard = ShardManifest.load(lake.data, manifest_key).splits["train"].shards[0]
    path = cached_object(lake.data, shard.key, sha256=shard.sha256, folder=cache)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert cached_object(lake.data, shard.key, sha256=shard.sha256, folder=cache).read_bytes() == good
    lake.data.delete([shard.key])
    assert cached_object(lake.data, shard.key, sha256=shard.sha256, folder=cache) == path


def test_a_shard_that_changed_under_its_manifest_is_refused(
    lake: Lake, manifest_key: str, cache: Path
) -> None:
    manifest = ShardManifest.load(lake.data, manifest_key)
    shard = manifest.splits["train"].shards[0]
    lake.data.put(shard.key, lake.data.get(shard.key)[:-1] + b"\xff")
    with pytest.raises(TrainingDataError, match=r"train-00000\.safetensors has SHA-256"):
        ShardDataset(manifest, split="train", bucket=lake.data, cache=cache)
    assert not any(cache.iterdir())


def test_held_out_rows_are_dealt_over_families(lake: Lake, manifest_key: str, cache: Path) -> None:
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


def test_a_missing_split_is_named(lake: Lake, manifest_key: str, cache: Path) -> None:
    with pytest.raises(TrainingDataError, match="Split 'dev'"):
        ShardDataset(ShardManifest.load(lake.data, manifest_key), split="dev", bucket=lake.data, cache=cache)
