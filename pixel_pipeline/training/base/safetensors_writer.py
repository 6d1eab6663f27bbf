"""Writes sharded safetensors tensor by tensor, with one tensor in memory and all sizes known in advance. Imports torch.

The format: https://github.com/huggingface/safetensors#format (8 bytes with the length of the header, the header as JSON, then
the tensors without gaps).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import hashlib
from math import prod
import os
from pathlib import Path
from typing import Literal

import orjson
import torch
from torch import Tensor

from pixel_pipeline.registry.base_models import FileDigest
from pixel_pipeline.training.base.files import INDEX, SINGLE

Dtype = Literal["bf16", "fp32"]
TORCH_DTYPES: dict[Dtype, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}
_CODES: dict[Dtype, tuple[str, int]] = {"bf16": ("BF16", 2), "fp32": ("F32", 4)}
SHARD_BYTES = 4 * 10**9
"""Maximum size of a shard, unless a single tensor is larger."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to write."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return prod(self.shape) * _CODES[self.dtype][1]


@dataclass(frozen=True)
class Shard:
    """One file to write; `header` is everything before the first tensor."""

    name: str
    header: bytes
    tensors: tuple[TensorSpec, ...]

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return len(self.header) + sum(tensor.bytes for tensor in self.tensors)


def plan_shards(tensors: Sequence[TensorSpec], *, shard_bytes: int = SHARD_BYTES) -> list[Shard]:
    """Distribute tensors, in order, over as few files as possible."""
    groups: list[list[TensorSpec]] = [[]]
    for tensor in tensors:
        if groups[-1] and sum(other.bytes for other in groups[-1]) + tensor.bytes > shard_bytes:
            groups.append([])
        groups[-1].append(tensor)
    count = len(groups)
    names = (
        [SINGLE] if count == 1 else [f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    )
    return [
        Shard(name=name, header=_header(group), tensors=tuple(group))
        for name, group in zip(names, groups, strict=True)
    ]


def index_of(shards: Sequence[Shard]) -> bytes | None:
    """The JSON index from tensors to shards; None for a single file."""
    if len(shards) == 1:
        return None
    size = sum(tensor.bytes for shard in shards for tensor in shard.tensors)
    content = {
        "metadata": {"total_size": size},
        "weight_map": {tensor.name: shard.name for shard in shards for tensor in shard.tensors},
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def write_shards(
    folder: Path, shards: Sequence[Shard], tensors: Iterable[tuple[str, Tensor]]
) -> dict[str, FileDigest]:
    """Write shards and index into a folder and sync them to disk; returns their digests.

    Args:
        tensors: Tensors by name in the order of the plan, cast to their planned dtype. A generator keeps one in memory.

    Raises:
        ValueError: a tensor is out of order or has an unplanned shape.
        OSError: the disk is full.
    """
    digests: dict[str, FileDigest] = {}
    iterator = iter(tensors)
    for shard in shards:
        digest = hashlib.sha256(shard.header)
        with (folder / shard.name).open("wb", buffering=0) as file:
            _write(file.fileno(), memoryview(shard.header))
            for spec in shard.tensors:
                name, tensor = next(iterator, (None, None))
                if tensor is None or name != spec.name or tuple(tensor.shape) != spec.shape:
                    raise ValueError(f"{spec.name} {list(spec.shape)} expected, got {name}")
                data = tensor.detach().to("cpu", TORCH_DTYPES[spec.dtype]).reshape(-1).view(torch.uint8)
                view = data.numpy().data
                digest.update(view)
                _write(file.fileno(), view)
                del tensor, data, view
            os.fsync(file.fileno())
        digests[shard.name] = FileDigest(sha256=digest.hexdigest(), bytes=shard.bytes)
    index = index_of(shards)
    if index is not None:
        (folder / INDEX).write_bytes(index)
        digests[INDEX] = FileDigest(sha256=hashlib.sha256(index).hexdigest(), bytes=len(index))
    return digests


def _header(tensors: Sequence[TensorSpec]) -> bytes:
    content: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        content[tensor.name] = {
            "dtype": _CODES[tensor.dtype][0],
            "shape": tensor.shape,
            "data_offsets": [offset, offset + tensor.bytes],
        }
        offset += tensor.bytes
    text = orjson.dumps(content)
    # Pad with spaces to align the tensors to 8 bytes.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(descriptor: int, data: memoryview) -> None:
    # A single write takes at most 2 GiB.
    while data:
        data = data[os.write(descriptor, data) :]
