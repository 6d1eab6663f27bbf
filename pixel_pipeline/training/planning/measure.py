"""Measures real training steps on this machine and discards them. Imports torch."""

from collections.abc import Callable
from math import ceil
from pathlib import Path
import resource
from statistics import median
import sys
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from uuid import uuid4

import torch
from torch.utils.data import DataLoader

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.data.dataset import ShardDataset, collate, rows_by_family
from pixel_pipeline.training.errors import TrainingMemoryError
from pixel_pipeline.training.evaluation.measuring import row_limit
from pixel_pipeline.training.evaluation.report import MOST_ROWS
from pixel_pipeline.training.loop.callbacks.throughput import Throughput
from pixel_pipeline.training.loop.checkpoint_folder import write_checkpoint_folder
from pixel_pipeline.training.loop.lightning import fit, is_out_of_memory, lightning_trainer
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.loop.scoring import score_families
from pixel_pipeline.training.model.cost import MixtureCost
from pixel_pipeline.training.model.factory import new_model
from pixel_pipeline.training.model.losses import CHUNK_ROWS
from pixel_pipeline.training.model.mixture import matched_dense
from pixel_pipeline.training.model.trained_model import TrainedModel
from pixel_pipeline.training.planning.memory import MicroBatch, available_ram, choose_micro_batch
from pixel_pipeline.training.planning.plan import Speed, evaluated_rows
from pixel_pipeline.training.runtime.arithmetic import use_reproducible_arithmetic
from pixel_pipeline.training.runtime.device import device_name
from pixel_pipeline.training.runtime.environment import silence_libraries

MEASURED_STEPS = 5
# Of a longer step, only as many micro-batches as fit into this time are measured.
LONGEST_STEP_SECONDS = 10.0
VALIDATION_ROWS = 8


def first_micro_batch(
    config: TrainingConfig, *, base: BaseModel | None, row_tokens: int, device: torch.device
) -> MicroBatch:
    """The configured micro-batch; by default one that fits by the memory model for adapters, else the whole step."""
    if base is None or base.native or config.rows_per_micro_batch is not None:
        rows = min(config.rows_per_micro_batch or config.rows_per_step, config.rows_per_step)
        return MicroBatch(rows, config.checkpoint_activations)
    adapters = matched_dense(config.adapters, base.config) if config.dense_baseline else config.adapters
    return choose_micro_batch(
        MixtureCost(
            base.config,
            adapters,
            bytes_per_value=4 if device.type == "cpu" else 2,
            frozen_precision=config.frozen_precision,
        ),
        rows_per_step=config.rows_per_step,
        row_tokens=row_tokens,
        available=available_memory(device),
        device=device.type,
        head_chunk_rows=CHUNK_ROWS,
        checkpoint_activations=config.checkpoint_activations,
    )


def available_memory(device: torch.device) -> int:
    """Free bytes on the device."""
    return available_ram() if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]


def measure_speed(
    config: TrainingConfig,
    *,
    lake: Lake,
    manifest: ShardManifest,
    base: BaseModel | None,
    device: torch.device,
    cache: Path,
    began: float,
    report: Callable[[str], None],
) -> Speed:
    """Build the model as the trainer does, find the micro-batch that fits, and time steps, a validation and a checkpoint.

    Args:
        began: Start of this process, by `time.monotonic`.

    Raises:
        TrainingMemoryError: not even one row at a time fits.
        TrainingDataError: the shards do not fit the base model, or a split has no rows.
    """
    use_reproducible_arithmetic(device)
    silence_libraries()
    available = available_memory(device)
    micro = first_micro_batch(config, base=base, row_tokens=manifest.sequence_length, device=device)
    data = {
        split: ShardDataset(manifest, split=split, bucket=lake.data, cache=cache)
        for split in ("train", "validation")
    }
    model = new_model(config, manifest, base=base, device=device)
    start_up = monotonic() - began
    while True:
        recomputed = ", activations recomputed" if micro.checkpoint_activations else ""
        report(f"measuring steps of {micro.rows} rows at a time{recomputed}")
        try:
            seconds, module = _step_seconds(micro.applied_to(config), model, data["train"], device=device)
            break
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = micro.smaller()
        if smaller is None:
            raise TrainingMemoryError(
                f"One row of {manifest.sequence_length:,} tokens does not fit the memory of {device}.",
                hint="Materialize token_shards with shorter rows (PIXEL_SEQUENCE_LENGTH), or use a smaller base model.",
            )
        report(f"{micro.rows} rows at a time do not fit; trying {smaller.rows}")
        if device.type == "cuda":
            torch.cuda.empty_cache()
        micro = smaller
    peak = _peak_bytes(device)
    row = _row_seconds(module, data["validation"])
    checkpoint, upload = _checkpoint_seconds(module, lake)
    limit = row_limit(model, most_rows=MOST_ROWS, length=manifest.sequence_length)
    adapters = base is not None and not base.native
    return Speed(
        device=device_name(device),
        source=f"{len(seconds)} steps measured just now",
        fastest=min(seconds),
        expected=median(seconds),
        slowest=max(seconds),
        start_up=start_up,
        checkpoint=checkpoint,
        validation=row * min(config.validation_rows, len(data["validation"])),
        upload=upload,
        evaluation=start_up + row * evaluated_rows(manifest, limit=limit, adapters=adapters),
        micro_batch=micro,
        available_bytes=available,
        peak_bytes=peak,
    )


def _step_seconds(
    config: TrainingConfig, model: TrainedModel, data: ShardDataset, *, device: torch.device
) -> tuple[list[float], MoEModule]:
    """Seconds of whole steps, after two steps of one micro-batch as a warm-up."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    micro = config.rows_per_micro_batch or config.rows_per_step
    (_, one), _ = _fit(config, model, data, device=device, rows=micro, steps=2)
    together = min(max(int(LONGEST_STEP_SECONDS / one), 1), ceil(config.rows_per_step / micro))
    rows = min(together * micro, config.rows_per_step)
    seconds, module = _fit(config, model, data, device=device, rows=rows, steps=MEASURED_STEPS)
    # This counts the update once for every part of a step, which errs on the safe side.
    return [value * config.rows_per_step / rows for value in seconds], module


def _fit(
    config: TrainingConfig,
    model: TrainedModel,
    data: ShardDataset,
    *,
    device: torch.device,
    rows: int,
    steps: int,
) -> tuple[list[float], MoEModule]:
    model.checkpoint_activations(config.checkpoint_activations)
    model.train()
    history = History()
    module = MoEModule(model, config=config.model_copy(update={"domains": None}), history=history)
    throughput = Throughput(history, model=model, length=1)
    trainer = lightning_trainer(module, device=device, callbacks=[throughput])
    # Spread over the split: its first rows may all belong to one family.
    stride = max(len(data) // (rows * steps), 1)
    indices = [place * stride % len(data) for place in range(rows * steps)]
    batches = [
        collate([data[index] for index in indices[step * rows : (step + 1) * rows]]) for step in range(steps)
    ]
    fit(trainer, module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return throughput.seconds, module


def _row_seconds(module: MoEModule, validation: ShardDataset) -> float:
    """Seconds to score a held-out row."""
    rows = rows_by_family(validation, limit=VALIDATION_ROWS)
    started = perf_counter()
    score_families(module.trained, validation, rows=rows)
    return (perf_counter() - started) / sum(map(len, rows.values()))


def _checkpoint_seconds(module: MoEModule, lake: Lake) -> tuple[float, float]:
    """Seconds to write a checkpoint and to upload it; it is deleted afterwards."""
    bucket, prefix = lake.checkpoints, f"_plan/{uuid4().hex}"
    state = RunState(step=0, identity={})
    started = perf_counter()
    with TemporaryDirectory(prefix="pixel-plan-") as folder:
        write_checkpoint_folder(
            Path(folder), model=module.trained, optimizer=module.optimizer_state(), state=state, tokenizer={}
        )
        written = perf_counter()
        paths = {f"{prefix}/{path.name}": path for path in Path(folder).iterdir()}
        try:
            for key, path in paths.items():
                bucket.put(key, path)
        finally:
            bucket.delete(paths)
    return written - started, perf_counter() - written


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # KiB on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
