"""Writes base and adapters as a native Mixtral checkpoint, layer by layer. Imports torch."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
import shutil

import orjson
import torch
from torch import Tensor

from pixel_pipeline.training.base.architecture import EMBEDDING, HEAD, NORM, outer_shapes
from pixel_pipeline.training.base.files import CONFIG, SIDE_FILES, file_digests
from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.base.safetensors_writer import (
    SHARD_BYTES,
    Dtype,
    Shard,
    TensorSpec,
    index_of,
    plan_shards,
    write_shards,
)
from pixel_pipeline.training.export.adapter import ADAPTER_FILES, Adapter
from pixel_pipeline.training.export.folder import ExportRecord, atomic_folder
from pixel_pipeline.training.export.merging import merged_layer, mixtral_layer_shapes
from pixel_pipeline.training.export.mixtral_config import mixtral_config


def export_mixtral(
    base: BaseModel,
    adapter: Adapter,
    target: Path,
    *,
    dtype: Dtype = "bf16",
    adapter_source: str | None = None,
    report: Callable[[str], None] = lambda line: None,
    shard_bytes: int = SHARD_BYTES,
) -> ExportRecord:
    """Write a checkpoint for `MixtralForCausalLM.from_pretrained`, with tokenizer and template.

    Holds one layer of the base and one merged matrix in memory. Merges in fp32 and casts once. Reports the size and compares it
    with the free disk space first; the folder is written atomically.

    Args:
        target: Must not exist, or be empty.
        adapter_source: Source of the adapters, for the record; default: their folder.
        report: Receives readable progress lines.
        shard_bytes: Maximum size of a file.

    Raises:
        ExportError: the adapters belong to another base, or are incomplete or not finite; the disk is full; the target exists.
        BaseModelCorruptError: a shard of the base cannot be read.
    """
    adapter.check(base)
    config = orjson.dumps(
        mixtral_config(base, adapter.description, dtype=dtype),
        option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS,
    )
    shards = plan_export(base, adapter, dtype=dtype, shard_bytes=shard_bytes)
    sides = [name for name in SIDE_FILES if name in base.files]
    size = sum(shard.bytes for shard in shards) + len(index_of(shards) or b"") + len(config)
    size += sum(base.files[name].bytes for name in sides)
    report(f"writing {size:,} bytes ({size / 1e9:,.2f} GB) in {len(shards)} weight files to {target}")
    with atomic_folder(target, bytes=size) as folder:
        digests = write_shards(folder, shards, merged_tensors(base, adapter, report))
        (folder / CONFIG).write_bytes(config)
        for name in sides:
            shutil.copyfile(base.folder / name, folder / name)
        record = _record(base, adapter, kind="mixtral", dtype=dtype, source=adapter_source)
        record = replace(record, files={**digests, **file_digests(folder, [CONFIG, *sides])})
        record.write(folder)
    return record


def export_adapter(
    base: BaseModel, adapter: Adapter, target: Path, *, adapter_source: str | None = None
) -> ExportRecord:
    """Write only the adapters, with the tokenizer, template and configuration of their base.

    Raises:
        ExportError: as for `export_mixtral`.
    """
    adapter.check(base)
    sides = [name for name in (CONFIG, *SIDE_FILES) if name in base.files]
    size = sum((adapter.folder / name).stat().st_size for name in ADAPTER_FILES)
    with atomic_folder(target, bytes=size + sum(base.files[name].bytes for name in sides)) as folder:
        for name in ADAPTER_FILES:
            shutil.copyfile(adapter.folder / name, folder / name)
        for name in sides:
            shutil.copyfile(base.folder / name, folder / name)
        record = _record(base, adapter, kind="adapter", dtype="fp32", source=adapter_source)
        record = replace(record, files=file_digests(folder, [*ADAPTER_FILES, *sides]))
        record.write(folder)
    return record


def plan_export(
    base: BaseModel, adapter: Adapter, *, dtype: Dtype, shard_bytes: int = SHARD_BYTES
) -> list[Shard]:
    """Weight files of an export: names, tensors and exact sizes."""
    outer = outer_shapes(base.config)
    shapes = {EMBEDDING: outer[EMBEDDING]}
    for layer in range(base.layers):
        shapes |= mixtral_layer_shapes(base, layer, experts=adapter.description.experts)
    shapes |= {name: outer[name] for name in (NORM, HEAD) if name in outer}
    return plan_shards(
        [TensorSpec(name, shape, dtype) for name, shape in shapes.items()], shard_bytes=shard_bytes
    )


def merged_tensors(
    base: BaseModel, adapter: Adapter, report: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors of the export in the order of the plan, before the cast."""
    outer = base.outer_tensors()
    yield EMBEDDING, outer[EMBEDDING]
    with torch.inference_mode():
        for layer in range(base.layers):
            yield from merged_layer(base, adapter, layer)
            report(f"layer {layer + 1} of {base.layers}")
    for name in (NORM, HEAD):
        if name in outer:
            yield name, outer[name]


def _record(
    base: BaseModel, adapter: Adapter, *, kind: str, dtype: Dtype, source: str | None
) -> ExportRecord:
    return ExportRecord(
        kind=kind,
        dtype=dtype,
        base=base.name,
        base_digest=base.digest,
        adapter=source or str(adapter.folder.resolve()),
        adapter_sha256=adapter.sha256,
        files={},
    )
