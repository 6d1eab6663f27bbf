"""Runs the steps that a run still lacks, on this machine. Imports torch."""

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
from pixel_pipeline.training.checkpoints.state import (
    OPTIMIZER_FILE,
    OptimizerState,
    read_optimizer,
    write_checkpoint_folder,
)
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef, download
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
from pixel_pipeline.training.config.adapters import ExpertDomains
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.data.cache import cached_object
from pixel_pipeline.training.data.dataset import ShardDataset, rows_by_family, training_loader
from pixel_pipeline.training.data.row_order import RowOrder
from pixel_pipeline.training.errors import (
    TrainingDataError,
    TrainingInterruptedError,
    TrainingMemoryError,
)
from pixel_pipeline.training.loop.arithmetic import use_reproducible_arithmetic
from pixel_pipeline.training.loop.callbacks.checkpointing import Checkpointing
from pixel_pipeline.training.loop.callbacks.curves import Curves
from pixel_pipeline.training.loop.callbacks.early_stopping import EarlyStopping
from pixel_pipeline.training.loop.callbacks.interruption import Interruption
from pixel_pipeline.training.loop.callbacks.progress import Progress
from pixel_pipeline.training.loop.callbacks.router_watch import RouterWatch
from pixel_pipeline.training.loop.callbacks.throughput import Throughput
from pixel_pipeline.training.loop.callbacks.validation import HeldOutLoss
from pixel_pipeline.training.loop.callbacks.window import Window
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.model.factory import new_model, read_model, uses_autocast
from pixel_pipeline.training.planning.last_run import UPLOAD_BYTES_PER_SECOND
from pixel_pipeline.training.runtime.environment import silence_libraries
from pixel_pipeline.training.runtime.loggers import open_loggers

# Less than what an orchestrator waits after its signal.
INTERRUPTED_UPLOAD_SECONDS = 90.0
LAST_UPLOAD_SECONDS = 3600.0
# fp32 weights and AdamW's two moments.
CHECKPOINT_BYTES_PER_PARAMETER = 12


@dataclass
class Fit:
    """One process's work on a run.

    Args:
        start: State to go on from; step 0 for a new run.
        uploads: Of this run, recovered.
        base: Base model of the adapters; None from scratch.
        initial: Checkpoint that a new run takes its first weights from; None for fresh weights.
        home: Folder of logs and caches.
        cache: Folder of local copies of lake objects.
        device: Checked already.
        deadline: Of `time.monotonic`: when the last checkpoint has to be in the lake.
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
    _interruption: Interruption = field(init=False)
    _early_stopping: EarlyStopping = field(init=False)

    def run_to_end(self) -> CheckpointRef:
        """Train the missing steps, as far as the window reaches; returns the last checkpoint.

        Raises:
            TrainingInterruptedError: SIGINT or SIGTERM came; a checkpoint of the steps done is durable.
            CheckpointUploadError: the last checkpoint waits on this machine's disk, for the lake did not take it in time.
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
        module = self._module(order)
        trainer = self._trainer(module, data)
        loader = training_loader(data["train"], order=order, start_step=self.start.step)
        try:
            if self.start.step == self.config.steps or self._early_stopping.due:
                # A former process was killed between its last checkpoint and the word that it is the last.
                self.uploads.submit(self.start.step, final=True)
            else:
                trainer.fit(module, train_dataloaders=loader)
        except SystemExit:
            # Lightning's answer to a signal that comes before our handlers are in place, ahead of the first step.
            raise KeyboardInterrupt from None
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
                hint="Run the same command again to go on from there.",
            )
        return done

    def _upload_seconds(self, *, interrupted: bool) -> float:
        """How long the last checkpoint may take into the lake; after that it waits on this disk for the next process."""
        if interrupted:
            return INTERRUPTED_UPLOAD_SECONDS
        if self.deadline is None:
            return LAST_UPLOAD_SECONDS
        return max(self.deadline - monotonic(), INTERRUPTED_UPLOAD_SECONDS)

    def _module(self, order: RowOrder) -> MoEModule:
        optimizer: OptimizerState | None = None
        own = CheckpointRef(run=self.run, step=self.start.step) if self.start.step else None
        with TemporaryDirectory(prefix="pixel-weights-") as name:
            folder = Path(name)
            if own is not None:
                download(self.lake, own, folder=folder)
                model = read_model(
                    folder,
                    base=self.base,
                    device=self.device,
                    frozen_precision=self.config.frozen_precision,
                )
                optimizer = read_optimizer(folder)
            else:
                if self.initial is not None:
                    files = CheckpointManifest.load(self.lake, self.initial).files
                    names = sorted(files.keys() - {OPTIMIZER_FILE, STATE_FILE})
                    download(self.lake, self.initial, folder=folder, names=names)
                model = new_model(
                    self.config,
                    self.manifest,
                    base=self.base,
                    device=self.device,
                    initial=folder if self.initial else None,
                )
        total, active = model.parameter_counts()
        trained = sum(parameter.numel() for parameter in model.trained_parameters().values())
        self.start = replace(self.start, parameters=(total, active))
        self.report(
            f"{total / 1e6:.1f} M parameters, {active / 1e6:.1f} M active for a token"
            f"{f', {trained / 1e6:.1f} M trained' if trained != total else ''}"
        )
        model.checkpoint_activations(self.config.checkpoint_activations)
        if self.config.compile:
            model.compile_blocks()
        # Lightning puts the mode back after each hook; from_pretrained leaves a model in evaluation mode.
        model.train()
        return MoEModule(
            model,
            config=self.config,
            history=self.start.history,
            stage_of=order.part,
            domain_of=domains_of_families(self.config.domains, self.manifest),
            optimizer_state=optimizer,
            report=self.report,
        )

    def _trainer(self, module: MoEModule, data: Mapping[str, ShardDataset]) -> pl.Trainer:
        config, history, validation = self.config, self.start.history, data["validation"]
        self._interruption = interruption = Interruption(self.report)
        throughput = Throughput(history, model=module.trained, length=self.manifest.sequence_length)
        held_out = HeldOutLoss(
            validation,
            rows=rows_by_family(validation, limit=config.validation_rows),
            history=history,
            report=self.report,
            stopping=lambda: interruption.requested,
        )
        checkpointing = Checkpointing(self._save, every_seconds=config.checkpoint_every_seconds)
        self._early_stopping = EarlyStopping(
            history, patience=config.early_stopping_patience, report=self.report
        )

        trained = sum(parameter.numel() for parameter in module.trained.trained_parameters().values())
        upload = trained * CHECKPOINT_BYTES_PER_PARAMETER / UPLOAD_BYTES_PER_SECOND

        def reserve() -> float:
            """Two steps, two checkpoints and the last upload."""
            return 2 * throughput.slowest_step + 2 * checkpointing.slowest + upload

        return pl.Trainer(
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            devices=[self.device.index] if self.device.type == "cuda" else 1,
            precision="bf16-mixed" if uses_autocast(config, module.trained) else "32-true",
            # The sampler has the steps that are missing.
            max_epochs=1,
            # In this order they hear of a step: a checkpoint holds the step's validation, and what ended the run.
            callbacks=[
                interruption,
                throughput,
                held_out,
                self._early_stopping,
                Window(self.deadline, reserve=reserve, report=self.report),
                RouterWatch(self.report),
                Progress(
                    history,
                    throughput=throughput,
                    report=self.report,
                    every_seconds=config.log_every_seconds,
                ),
                Curves(history, throughput=throughput, every_seconds=config.log_every_seconds),
                checkpointing,
            ],
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=open_loggers(config.loggers, run=self.run, folder=self.home / "logs"),
            use_distributed_sampler=False,
        )

    def _save(self, module: MoEModule, *, best: bool) -> None:
        step = module.steps_done
        trained = sum(parameter.numel() for parameter in module.trained.trained_parameters().values())
        with self.uploads.writing(step, bytes_needed=CHECKPOINT_BYTES_PER_PARAMETER * trained) as folder:
            write_checkpoint_folder(
                folder,
                model=module.trained,
                optimizer=module.optimizer_state(),
                state=replace(self.start, step=step),
                tokenizer=self._tokenizer_files(),
            )
        self.uploads.submit(
            step,
            final=step == self.config.steps or self._early_stopping.due,
            best=best,
            metric=module.history.validations[-1].loss if best else None,
        )

    def _tokenizer_files(self) -> Path | dict[str, Path]:
        if self.base is not None:
            return {
                name: self.base.folder / name
                for name in TOKENIZER_FILES
                if (self.base.folder / name).is_file()
            }
        own = self.manifest.tokenizer
        return cached_object(self.lake.data, own.key, sha256=own.sha256, folder=self.cache)

    def _out_of_memory(self) -> TrainingMemoryError:
        rows = self.config.rows_per_micro_batch or self.config.rows_per_step
        if rows > 1:
            change = f"Set rows_per_micro_batch to {rows // 2} (it is {rows})"
        elif not self.config.checkpoint_activations:
            change = "Set checkpoint_activations to true"
        else:
            change = "Materialize token_shards with shorter rows (PIXEL_SEQUENCE_LENGTH), or take a smaller base model"
        return TrainingMemoryError(
            f"A step of {rows} rows of {self.manifest.sequence_length:,} tokens does not fit the memory of {self.device}.",
            hint=f"{change}; training goes on from the last checkpoint.",
        )


def domains_of_families(domains: ExpertDomains | None, manifest: ShardManifest) -> dict[str, str]:
    """Domain of each family: its own name where that is a domain, else its category's.

    Raises:
        TrainingDataError: a domain is neither a family nor a category of the shards.
    """
    if domains is None:
        return {}
    found = {
        family: family if family in domains.domains else of.category
        for family, of in manifest.families.items()
        if {family, of.category} & {*domains.domains}
    }
    missing = [name for name in domains.domains if name not in found.values()]
    if missing:
        there = sorted({*manifest.families, *(of.category for of in manifest.families.values())})
        raise TrainingDataError(
            f"Expert domains {', '.join(missing)} are neither families nor categories of the token shards.",
            hint=f"There are: {', '.join(there)}.",
        )
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Of the device or of the machine. The CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
