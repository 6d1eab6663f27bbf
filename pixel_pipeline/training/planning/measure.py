"""Measures real steps on this machine, and throws them away. Imports torch."""

from collections.abc import Callable
from math import ceil
from pathlib import Path
import resource
import sys
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import Any
from uuid import uuid4

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.state import write_checkpoint_folder
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.data.batch import PackedBatch
from pixel_pipeline.training.data.dataset import ShardDataset, collate, rows_by_family
from pixel_pipeline.training.errors import TrainingMemoryError
from pixel_pipeline.training.evaluation.measuring import row_limit
from pixel_pipeline.training.evaluation.report import MOST_ROWS
from pixel_pipeline.training.evaluation.scoring import score_families
from pixel_pipeline.training.loop.arithmetic import use_reproducible_arithmetic
from pixel_pipeline.training.loop.history import History
from pixel_pipeline.training.loop.losses import CHUNK_ROWS
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.loop.trainer import is_out_of_memory
from pixel_pipeline.training.model.factory import new_model, uses_autocast
from pixel_pipeline.training.model.mixture import matched_dense
from pixel_pipeline.training.planning.cost import MixtureCost
from pixel_pipeline.training.planning.last_run import evaluated_rows
from pixel_pipeline.training.planning.memory import MicroBatch, available_ram, choose_micro_batch
from pixel_pipeline.training.planning.plan import Overheads, StepTime
from pixel_pipeline.training.planning.speed import Speed
from pixel_pipeline.training.runtime.device import device_name
from pixel_pipeline.training.runtime.environment import silence_libraries

MEASURED_STEPS = 5
# Of a step whose micro-batches take longer together, as many are measured as fit, and the others reckoned.
LONGEST_STEP_SECONDS = 10.0
VALIDATION_ROWS = 8


def with_micro_batch(
    config: TrainingConfig, *, base: BaseModel | None, row_tokens: int, device: torch.device
) -> TrainingConfig:
    """The configuration with a micro-batch that fits by the memory model, where none is set and adapters are trained."""
    if base is None or base.native or config.rows_per_micro_batch is not None:
        return config
    micro = _chosen(
        config, base=base, row_tokens=row_tokens, device=device, available=available_memory(device)
    )
    return config.model_copy(
        update={
            "rows_per_micro_batch": micro.rows,
            "checkpoint_activations": micro.checkpoint_activations,
        }
    )


def available_memory(device: torch.device) -> int:
    """Bytes that are free on the device."""
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
        began: Of `time.monotonic`: when this process began.

    Raises:
        TrainingMemoryError: not even one row at a time fits.
        TrainingDataError: the shards do not fit the base model, or a split has no rows.
    """
    use_reproducible_arithmetic(device)
    silence_libraries()
    available = available_memory(device)
    data = {
        split: ShardDataset(manifest, split=split, bucket=lake.data, cache=cache)
        for split in ("train", "validation")
    }
    model = new_model(config, manifest, base=base, device=device)
    start_up = monotonic() - began
    micro = _first_choice(
        config, base=base, row_tokens=manifest.sequence_length, device=device, available=available
    )
    runner = _Runner(config=config, data=data["train"], device=device, model=model)
    while True:
        report(
            f"measuring steps of {micro.rows} rows at a time"
            f"{', activations computed twice' if micro.checkpoint_activations else ''}"
        )
        try:
            seconds, module = runner.steps_seconds(micro)
            break
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = micro.smaller()
        if smaller is None:
            raise TrainingMemoryError(
                f"One row of {manifest.sequence_length:,} tokens does not fit the memory of {device}.",
                hint="Materialize token_shards with shorter rows (PIXEL_SEQUENCE_LENGTH), or take a smaller base model.",
            )
        report(f"{micro.rows} rows at a time do not fit; trying {smaller.rows}")
        if device.type == "cuda":
            torch.cuda.empty_cache()
        micro = smaller
    peak = _peak_bytes(device)
    validation = _row_seconds(module, data["validation"])
    rows = row_limit(model, most_rows=MOST_ROWS, length=manifest.sequence_length)
    written, uploaded = _checkpoint_seconds(module, lake)
    overheads = Overheads(
        start_up=start_up,
        checkpoint=written,
        checkpoint_every=config.checkpoint_every_seconds,
        validation=validation * min(config.validation_rows, len(data["validation"])),
        upload=uploaded,
        evaluation=start_up
        + validation * evaluated_rows(manifest, limit=rows, adapters=base is not None and not base.native),
    )
    return Speed(
        device=device_name(device),
        step=StepTime.of(seconds, source=f"{len(seconds)} steps measured just now"),
        overheads=overheads,
        micro_batch=micro,
        available_bytes=available,
        peak_bytes=peak,
    )


def _first_choice(
    config: TrainingConfig, *, base: BaseModel | None, row_tokens: int, device: torch.device, available: int
) -> MicroBatch:
    if base is None or base.native or config.rows_per_micro_batch is not None:
        rows = min(config.rows_per_micro_batch or config.rows_per_step, config.rows_per_step)
        return MicroBatch(rows=rows, checkpoint_activations=config.checkpoint_activations)
    return _chosen(config, base=base, row_tokens=row_tokens, device=device, available=available)


def _chosen(
    config: TrainingConfig, *, base: BaseModel, row_tokens: int, device: torch.device, available: int
) -> MicroBatch:
    adapters: AdaptersConfig = config.adapters
    if config.dense_baseline:
        adapters = matched_dense(adapters, base.config)
    return choose_micro_batch(
        MixtureCost(
            base.config,
            adapters,
            bytes_per_value=4 if device.type == "cpu" else 2,
            frozen_precision=config.frozen_precision,
        ),
        rows_per_step=config.rows_per_step,
        row_tokens=row_tokens,
        available=available,
        device=device.type,
        head_chunk_rows=CHUNK_ROWS,
        checkpoint_activations=config.checkpoint_activations,
    )


class _Runner:
    def __init__(
        self, *, config: TrainingConfig, data: ShardDataset, device: torch.device, model: Any
    ) -> None:
        self._config = config
        self._data = data
        self._device = device
        self._model = model

    def steps_seconds(self, micro: MicroBatch) -> tuple[list[float], MoEModule]:
        """Seconds of whole steps. The first step of all warms up."""
        batches = ceil(self._config.rows_per_step / micro.rows)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        (_, one), _ = self._fit(micro, rows=micro.rows, steps=2)
        together = min(max(int(LONGEST_STEP_SECONDS / one), 1), batches)
        rows = min(together * micro.rows, self._config.rows_per_step)
        seconds, module = self._fit(micro, rows=rows, steps=MEASURED_STEPS)
        # The update comes once a step and is counted once for each part: on the safe side.
        return [value * self._config.rows_per_step / rows for value in seconds], module

    def _fit(self, micro: MicroBatch, *, rows: int, steps: int) -> tuple[list[float], MoEModule]:
        config = self._config.model_copy(update={"rows_per_micro_batch": micro.rows, "domains": None})
        self._model.checkpoint_activations(micro.checkpoint_activations)
        self._model.train()
        module = MoEModule(self._model, config=config, history=History())
        timer = _StepTimer(self._device)
        trainer = pl.Trainer(
            accelerator="gpu" if self._device.type == "cuda" else "cpu",
            devices=[self._device.index] if self._device.type == "cuda" else 1,
            precision="bf16-mixed" if uses_autocast(config, self._model) else "32-true",
            max_epochs=1,
            callbacks=[timer],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            use_distributed_sampler=False,
        )
        try:
            trainer.fit(module, train_dataloaders=self._loader(rows=rows, steps=steps))
        except SystemExit:
            # Lightning's answer to a signal.
            raise KeyboardInterrupt from None
        return timer.seconds, module

    def _loader(self, *, rows: int, steps: int) -> "DataLoader[PackedBatch]":
        # Spread over the split, for the first rows may all be of one family.
        apart = max(len(self._data) // (rows * steps), 1)
        indices = [place * apart % len(self._data) for place in range(rows * steps)]
        batches = [indices[step * rows : (step + 1) * rows] for step in range(steps)]
        return DataLoader(self._data, batch_sampler=_Batches(batches), collate_fn=collate, num_workers=0)  # type: ignore[arg-type]


class _Batches(list[list[int]]):
    """A batch sampler."""


class _StepTimer(pl.Callback):
    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._started = 0.0
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self._started = perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self.seconds.append(perf_counter() - self._started)


def _row_seconds(module: MoEModule, validation: ShardDataset) -> float:
    """Seconds to score a held-out row."""
    rows = rows_by_family(validation, limit=VALIDATION_ROWS)
    started = perf_counter()
    score_families(module.trained, validation, rows=rows)
    return (perf_counter() - started) / sum(map(len, rows.values()))


def _checkpoint_seconds(module: MoEModule, lake: Lake) -> tuple[float, float]:
    """Seconds to write a checkpoint, and to put it into the lake, where it does not stay."""
    bucket, prefix = lake.checkpoints, f"_plan/{uuid4().hex}"
    state = RunState(
        step=0, identity={}, manifest_key="", git_revision="", parameters=(0, 0), history=History()
    )
    started = perf_counter()
    with TemporaryDirectory(prefix="pixel-plan-") as folder_name:
        folder = Path(folder_name)
        write_checkpoint_folder(
            folder, model=module.trained, optimizer=module.optimizer_state(), state=state, tokenizer={}
        )
        written = perf_counter()
        paths = {f"{prefix}/{path.name}": path for path in folder.iterdir()}
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
