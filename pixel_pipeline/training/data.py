"""Token shards as a map-style dataset, and the order in which training reads them. Imports torch."""

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pixel_pipeline.lake.store import Bucket
from pixel_pipeline.tokens.shards import ShardManifest, ShardRef
from pixel_pipeline.training.errors import TrainingDataError
from pixel_pipeline.training.packing import PackedBatch, pack_batch
from pixel_pipeline.training.shard_cache import cached_object

Row = tuple[Tensor, Tensor, Tensor]
"""tokens int32 [L], loss_mask uint8 [L], segments int16 [L]."""


class ShardDataset(Dataset[Row]):
    """Rows of one split over all its shards, in the manifest's order. Files are memory-mapped and read row by row.

    Attributes:
        families: Family of each row; None where a shard mixes them.
    """

    def __init__(self, manifest: ShardManifest, *, split: str, bucket: Bucket, cache: Path) -> None:
        shards = manifest.splits[split].shards if split in manifest.splits else []
        self._shards = [_MappedShard(shard, bucket=bucket, cache=cache) for shard in shards]
        self._ends = np.cumsum([shard.rows for shard in shards], dtype=np.int64)
        self.families = [*chain.from_iterable([shard.family] * shard.rows for shard in shards)]
        if not self.families:
            raise TrainingDataError(
                f"Split {split!r} of dataset version {manifest.dataset_version} has no rows.",
                hint="Ingest more conversations, or materialize token_shards with larger splits.",
            )

    def __len__(self) -> int:
        return len(self.families)

    def __getitem__(self, index: int) -> Row:
        shard = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[shard - 1]) if shard else 0
        return self._shards[shard].row(index - start)


class _MappedShard:
    def __init__(self, shard: ShardRef, *, bucket: Bucket, cache: Path) -> None:
        path = cached_object(bucket, shard.key, sha256=shard.sha256, folder=cache)
        file = safe_open(path, framework="pt")
        self._columns = [
            file.get_slice(name)  # type: ignore[no-untyped-call]
            for name in ("tokens", "loss_mask", "segments")
        ]

    def row(self, index: int) -> Row:
        tokens, loss_mask, segments = (column[index] for column in self._columns)
        return tokens, loss_mask, segments


class StepSampler:
    """Row indices of each step's batch: a pure function of (seed, epoch, step), so a resumed run reads the same rows.

    Each epoch is a permutation of all rows of its own; a batch may span two epochs, and no row is left out.
    """

    def __init__(self, rows: int, *, rows_per_step: int, seed: int, start_step: int, end_step: int) -> None:
        self._rows = rows
        self._rows_per_step = rows_per_step
        self._seed = seed
        self._steps = range(start_step, end_step)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        epoch = -1
        order: NDArray[np.int64] = np.empty(0, np.int64)
        for step in self._steps:
            batch = []
            for place in range(step * self._rows_per_step, (step + 1) * self._rows_per_step):
                if place // self._rows != epoch:
                    epoch = place // self._rows
                    order = np.random.default_rng([self._seed, epoch]).permutation(self._rows)
                batch.append(int(order[place % self._rows]))
            yield batch


def collate(rows: Sequence[Row]) -> PackedBatch:
    """A batch of rows, masks and targets included."""
    tokens, loss_mask, segments = (torch.stack(column) for column in zip(*rows, strict=True))
    return pack_batch(tokens, loss_mask=loss_mask, segments=segments)


def training_loader(dataset: ShardDataset, *, sampler: StepSampler) -> "DataLoader[PackedBatch]":
    """Batches in the sampler's order. In this process: rows are read from a mapping, there is nothing to overlap."""
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=0)  # type: ignore[arg-type]


def rows_by_family(dataset: ShardDataset, *, limit: int) -> dict[str, list[int]]:
    """Row indices by family, at most `limit` in all, dealt out in turn so that small families are heard."""
    members: dict[str, list[int]] = {}
    for index, family in enumerate(dataset.families):
        members.setdefault(family or "all", []).append(index)
    turns = zip_longest(*([(family, row) for row in rows] for family, rows in sorted(members.items())))
    dealt = [pair for turn in turns for pair in turn if pair is not None][:limit]
    chosen: dict[str, list[int]] = {}
    for family, row in dealt:
        chosen.setdefault(family, []).append(row)
    return chosen
