"""Token shards as a map-style dataset, and the order in which training reads them. Imports torch."""

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.tokens.shards import ShardManifest, ShardRef
from pixel_pipeline.training.data.batch import PackedBatch, pack_batch
from pixel_pipeline.training.data.cache import cached_object
from pixel_pipeline.training.data.row_order import RowOrder
from pixel_pipeline.training.errors import TrainingDataError


class Row(NamedTuple):
    """tokens int32 [L], loss_mask uint8 [L], segments int16 [L], and the family."""

    tokens: Tensor
    loss_mask: Tensor
    segments: Tensor
    family: str


class ShardDataset(Dataset[Row]):
    """Rows of all shards of a split, in the manifest's order. Files are memory-mapped and read row by row.

    Attributes:
        families: Family of each row.
        categories: Category of each family.
    """

    def __init__(self, manifest: ShardManifest, *, split: str, bucket: Bucket, cache: Path) -> None:
        shards = manifest.splits[split].shards if split in manifest.splits else []
        self._shards = [_MappedShard(shard, bucket=bucket, cache=cache) for shard in shards]
        self._ends = np.cumsum([shard.rows for shard in shards], dtype=np.int64)
        self.families = [*chain.from_iterable([shard.family] * shard.rows for shard in shards)]
        self.categories = {name: family.category for name, family in manifest.families.items()}
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
        self._family = shard.family
        file = safe_open(path, framework="pt")
        self._columns = [
            file.get_slice(name)  # type: ignore[no-untyped-call]
            for name in ("tokens", "loss_mask", "segments")
        ]

    def row(self, index: int) -> Row:
        tokens, loss_mask, segments = (column[index] for column in self._columns)
        return Row(tokens=tokens, loss_mask=loss_mask, segments=segments, family=self._family)


class _StepBatches:
    """Batch sampler: row indices of each step, from `start_step` to the end of the run."""

    def __init__(self, order: RowOrder, *, start_step: int) -> None:
        self._order = order
        self._steps = range(start_step, order.steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self._order.rows, self._steps)


def collate(rows: Sequence[Row]) -> PackedBatch:
    """Build a batch from rows."""
    return pack_batch(
        torch.stack([row.tokens for row in rows]),
        loss_mask=torch.stack([row.loss_mask for row in rows]),
        segments=torch.stack([row.segments for row in rows]),
        families=tuple(row.family for row in rows),
    )


def training_loader(dataset: ShardDataset, *, order: RowOrder, start_step: int) -> "DataLoader[PackedBatch]":
    """The batches of a run's steps from `start_step` on, the same in a resumed run.

    Rows are read in this process: the files are memory-mapped, so workers would gain nothing.
    """
    batches = _StepBatches(order, start_step=start_step)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=0)  # type: ignore[arg-type]


def rows_by_family(dataset: ShardDataset, *, limit: int) -> dict[str, list[int]]:
    """Row indices by family, at most `limit` in all, taken in turn so that small families are represented."""
    members: dict[str, list[int]] = {}
    for index, family in enumerate(dataset.families):
        members.setdefault(family, []).append(index)
    turns = zip_longest(*([(family, row) for row in rows] for family, rows in sorted(members.items())))
    dealt = [pair for turn in turns for pair in turn if pair is not None][:limit]
    chosen: dict[str, list[int]] = {}
    for family, row in dealt:
        chosen.setdefault(family, []).append(row)
    return chosen
