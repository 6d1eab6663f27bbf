"""Trains the remaining steps of a run on this machine. Imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import lightning.pytorch as pl
import torch

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.files import TOKENIZER_FILES
from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.checkpoints.run_state import STATE_FILE, RunState
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef, download
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.data.cache import cached_object
from pixel_pipeline.training.data.dataset import ShardDataset, rows_by_family, training_loader
from pixel_pipeline.training.data.row_order import RowOrder
from pixel_pipeline.training.errors import TrainingInterruptedError, TrainingMemoryError
from pixel_pipeline.training.loop.callbacks.checkpointing import Checkpointing
from pixel_pipeline.training.loop.callbacks.curves import Curves
from pixel_pipeline.training.loop.callbacks.early_stopping import EarlyStopping
from pixel_pipeline.training.loop.callbacks.interruption import Interruption
from pixel_pipeline.training.loop.callbacks.progress import Progress
from pixel_pipeline.training.loop.callbacks.router_watch import RouterWatch
from pixel_pipeline.training.loop.callbacks.throughput import Throughput
from pixel_pipeline.training.loop.callbacks.validation import HeldOutLoss
from pixel_pipeline.training.loop.callbacks.window import Window
from pixel_pipeline.training.loop.checkpoint_folder import (
    OPTIMIZER_FILE,
    OptimizerState,
    read_optimizer,
    write_checkpoint_folder,
)
from pixel_pipeline.training.loop.lightning import fit, is_out_of_memory, lightning_trainer
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.model.factory import new_model, read_model
from pixel_pipeline.training.model.trained_model import TrainedModel
from pixel_pipeline.training.runtime.arithmetic import use_reproducible_arithmetic
from pixel_pipeline.training.runtime.environment import silence_libraries
from pixel_pipeline.training.runtime.loggers import open_loggers
from pixel_pipeline.training.runtime.window import UPLOAD_BYTES_PER_SECOND, reserve_seconds

# Shorter than an orchestrator waits after its signal.
INTERRUPTED_UPLOAD_SECONDS = 90.0
LAST_UPLOAD_SECONDS = 3600.0
# fp32 weights and AdamW's two moments.
CHECKPOINT_BYTES_PER_PARAMETER = 12


@dataclass
class Fit:
    """The work of one process on a run.

    Args:
        start: State to resume from; step 0 for a new run.
        uploads: Of this run, recovered.
        base: Base model of the adapters; None from scratch.
        initial: Checkpoint that a new run takes its first weights from; None for fresh weights.
        home: Folder of the logs.
        cache: Folder of local copies of lake objects.
        deadline: When the last checkpoint must be in the lake, by `time.monotonic`.
    """

    config: TrainingConfig
    lake: Lake
    manifest: ShardManifest
    run: str
    start: RunState
    uploads: CheckpointUploads
    base: BaseModel | None
    initial: CheckpointRef | None
    home: Path
    cache: Path
    device: torch.device
    deadline: float | None
    report: Callable[[str], None]
    _checkpoint_bytes: int = field(init=False)
    _interruption: Interruption = field(init=False)
    _early_stopping: EarlyStopping = field(init=False)

    def run_to_end(self) -> CheckpointRef:
        """Train until the run or the window ends; returns the last checkpoint.

        Raises:
            TrainingInterruptedError: SIGINT or SIGTERM ended training; its checkpoint is in the lake.
            CheckpointUploadError: the last checkpoint was not uploaded in time; it waits on the local disk.
            TrainingMemoryError: a step needs more memory than the device has.
        """
        use_reproducible_arithmetic(self.device)
        silence_libraries()
        data = {
            split: ShardDataset(self.manifest, split=split, bucket=self.lake.data, cache=self.cache)
            for split in ("train", "validation")
        }
        order = RowOrder(
            data["train"].families,
            categories=data["train"].categories,
            curriculum=self.config.curriculum,
            steps=self.config.steps,
            rows_per_step=self.config.rows_per_step,
            seed=self.config.seed,
        )
        module = self._module(order, data["train"])
        trainer = self._trainer(module, data["validation"])
        try:
            fit(trainer, module, training_loader(data["train"], order=order, start_step=self.start.step))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._out_of_memory() from None
        interrupted = self._interruption.requested
        self.uploads.close(timeout=self._upload_seconds(interrupted=interrupted))
        done = CheckpointRef(run=self.run, step=module.steps_done)
        if interrupted and done.step < self.config.steps:
            raise TrainingInterruptedError(
                f"Training was interrupted at step {done.step}/{self.config.steps}; checkpoint: {done.uri(self.lake)}.",
                hint="Run the same command again to continue from there.",
            )
        return done

    def _upload_seconds(self, *, interrupted: bool) -> float:
        """Time for the last upload; after that, the checkpoint waits on this disk for the next process."""
        if interrupted:
            return INTERRUPTED_UPLOAD_SECONDS
        if self.deadline is None:
            return LAST_UPLOAD_SECONDS
        return max(self.deadline - monotonic(), INTERRUPTED_UPLOAD_SECONDS)

    def _module(self, order: RowOrder, data: ShardDataset) -> MoEModule:
        with TemporaryDirectory(prefix="pixel-weights-") as folder:
            model, optimizer = self._model(Path(folder))
        total, active = model.parameter_counts()
        trained = sum(parameter.numel() for parameter in model.trained_parameters().values())
        self._checkpoint_bytes = trained * CHECKPOINT_BYTES_PER_PARAMETER
        self.start = replace(self.start, parameters=(total, active))
        self.report(
            f"{total / 1e6:.1f} M parameters, {active / 1e6:.1f} M active per token"
            f"{f', {trained / 1e6:.1f} M trained' if trained != total else ''}"
        )
        model.checkpoint_activations(self.config.checkpoint_activations)
        if self.config.compile:
            model.compile_blocks()
        # from_pretrained leaves a model in evaluation mode, and Lightning restores the mode after each hook.
        model.train()
        domains = self.config.domains
        return MoEModule(
            model,
            config=self.config,
            history=self.start.history,
            stage_of=order.part,
            domain_of=domains.of_families(data.categories) if domains else None,
            optimizer_state=optimizer,
            report=self.report,
        )

    def _model(self, folder: Path) -> tuple[TrainedModel, OptimizerState | None]:
        """The model at the first step, and AdamW's state if the run is resumed; `folder` is for downloads."""
        if self.start.step:
            download(self.lake, CheckpointRef(run=self.run, step=self.start.step), folder=folder)
            precision = self.config.frozen_precision
            model = read_model(folder, base=self.base, device=self.device, frozen_precision=precision)
            return model, read_optimizer(folder)
        if self.initial is not None:
            files = CheckpointManifest.load(self.lake, self.initial).files
            names = sorted(files.keys() - {OPTIMIZER_FILE, STATE_FILE})
            download(self.lake, self.initial, folder=folder, names=names)
        initial = folder if self.initial else None
        return new_model(
            self.config, self.manifest, base=self.base, device=self.device, initial=initial
        ), None

    def _trainer(self, module: MoEModule, validation: ShardDataset) -> pl.Trainer:
        config, history = self.config, self.start.history
        self._interruption = interruption = Interruption(self.report)
        self._early_stopping = EarlyStopping(
            history, patience=config.early_stopping_patience, report=self.report
        )
        throughput = Throughput(history, model=module.trained, length=self.manifest.sequence_length)
        checkpointing = Checkpointing(self._save, every_seconds=config.checkpoint_every_seconds)

        def reserve() -> float:
            return reserve_seconds(
                step=throughput.slowest_step,
                checkpoint=checkpointing.slowest,
                upload=self._checkpoint_bytes / UPLOAD_BYTES_PER_SECOND,
            )

        # Called in this order after a step: a checkpoint contains the step's validation and the decision to stop.
        callbacks = [
            interruption,
            throughput,
            HeldOutLoss(
                validation,
                rows=rows_by_family(validation, limit=config.validation_rows),
                history=history,
                report=self.report,
                stopping=lambda: interruption.requested,
            ),
            self._early_stopping,
            Window(self.deadline, reserve=reserve, report=self.report),
            RouterWatch(self.report),
            Progress(
                history, throughput=throughput, report=self.report, every_seconds=config.log_every_seconds
            ),
            Curves(history, throughput=throughput, every_seconds=config.log_every_seconds),
            checkpointing,
        ]
        loggers = open_loggers(config.loggers, run=self.run, folder=self.home / "logs")
        return lightning_trainer(module, device=self.device, callbacks=callbacks, logger=loggers)

    def _save(self, module: MoEModule, *, best: bool) -> None:
        step = module.steps_done
        with self.uploads.writing(
            step,
            bytes_needed=self._checkpoint_bytes,
            final=step == self.config.steps or self._early_stopping.due,
            best=module.history.validations[-1].loss if best else None,
        ) as folder:
            write_checkpoint_folder(
                folder,
                model=module.trained,
                optimizer=module.optimizer_state(),
                state=replace(self.start, step=step),
                tokenizer=self._tokenizer_files(),
            )

    def _tokenizer_files(self) -> Path | Mapping[str, Path]:
        if self.base is None:
            own = self.manifest.tokenizer
            return cached_object(self.lake.data, own.key, sha256=own.sha256, folder=self.cache)
        paths = {name: self.base.folder / name for name in TOKENIZER_FILES}
        return {name: path for name, path in paths.items() if path.is_file()}

    def _out_of_memory(self) -> TrainingMemoryError:
        rows = self.config.rows_per_micro_batch or self.config.rows_per_step
        if rows > 1:
            change = f"Set rows_per_micro_batch to {rows // 2} (it is {rows})"
        elif not self.config.checkpoint_activations:
            change = "Set checkpoint_activations to true"
        else:
            change = "Materialize token_shards with shorter rows (PIXEL_SEQUENCE_LENGTH), or use a smaller base model"
        return TrainingMemoryError(
            f"A step of {rows} rows of {self.manifest.sequence_length:,} tokens does not fit the memory of {self.device}.",
            hint=f"{change}; training continues from the last checkpoint.",
        )
