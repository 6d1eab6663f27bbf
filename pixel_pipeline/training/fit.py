"""Runs the steps that a run still lacks, on this machine. Imports torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory, gettempdir

import lightning.pytorch as pl
import torch

from pixel_pipeline.lake.store import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.arithmetic import use_reproducible_arithmetic
from pixel_pipeline.training.callbacks.checkpointing import Checkpointing
from pixel_pipeline.training.callbacks.interruption import Interruption
from pixel_pipeline.training.callbacks.loss_history import LossHistory
from pixel_pipeline.training.callbacks.progress import Progress
from pixel_pipeline.training.callbacks.validation import HeldOutLoss
from pixel_pipeline.training.checkpoints import CheckpointRef, download, prune, publish
from pixel_pipeline.training.config import TrainingConfig
from pixel_pipeline.training.curriculum import Curriculum
from pixel_pipeline.training.data import ShardDataset, rows_by_family, training_loader
from pixel_pipeline.training.environment import silence_libraries
from pixel_pipeline.training.errors import CheckpointSpaceError, TrainingInterruptedError
from pixel_pipeline.training.model.from_scratch import (
    build_model,
    load_model,
    mixtral_config,
    parameter_counts,
)
from pixel_pipeline.training.module import MoEModule
from pixel_pipeline.training.row_order import RowOrder
from pixel_pipeline.training.run_state import RunState
from pixel_pipeline.training.shard_cache import cached_object
from pixel_pipeline.training.state import (
    OptimizerState,
    read_optimizer,
    restore_rng,
    write_checkpoint_folder,
)

# The newest may be the one that a crash of the server damages.
KEPT_CHECKPOINTS = 2
# fp32 weights and AdamW's two moments.
CHECKPOINT_BYTES_PER_PARAMETER = 12


@dataclass
class Fit:
    """One process's work on a run.

    Args:
        start: State to go on from; step 0 for a new run.
        cache: Folder of local copies of lake objects.
        device: Checked already.
    """

    config: TrainingConfig
    lake: Lake
    manifest: ShardManifest
    run: str
    start: RunState
    cache: Path
    device: torch.device
    report: Callable[[str], None]

    def run_to_end(self) -> CheckpointRef:
        """Train the missing steps; returns the final checkpoint.

        Raises:
            TrainingInterruptedError: SIGINT or SIGTERM came; a checkpoint of the steps done is durable.
        """
        use_reproducible_arithmetic(self.device)
        silence_libraries()
        data = {
            split: ShardDataset(self.manifest, split=split, bucket=self.lake.data, cache=self.cache)
            for split in ("train", "validation")
        }
        module = self._module()
        trainer = self._trainer(validation=data["validation"])
        order = RowOrder(
            data["train"].families,
            categories=data["train"].categories,
            curriculum=Curriculum(),
            steps=self.config.steps,
            rows_per_step=self.config.rows_per_step,
            seed=self.config.seed,
        )
        loader = training_loader(data["train"], order=order, start_step=self.start.step)
        try:
            trainer.fit(module, train_dataloaders=loader)
        except SystemExit:
            # Lightning's answer to a signal that comes before our handlers are in place, ahead of the first step.
            raise KeyboardInterrupt from None
        done = CheckpointRef(run=self.run, step=module.steps_done)
        if done.step < self.config.steps:
            raise TrainingInterruptedError(
                f"Training was interrupted at step {done.step}/{self.config.steps}; checkpoint: {done.uri(self.lake)}.",
                hint="Run the same command again to go on from there.",
            )
        return done

    def _module(self) -> MoEModule:
        optimizer: OptimizerState | None = None
        if self.start.step:
            ref = CheckpointRef(run=self.run, step=self.start.step)
            with TemporaryDirectory(prefix="pixel-resume-") as name:
                folder = Path(name)
                download(self.lake, ref, folder=folder)
                model = load_model(folder, device=self.device)
                optimizer = read_optimizer(folder)
                restore_rng(folder)
        else:
            sizes = mixtral_config(
                self.config.model_shape,
                tokenizer=self.manifest.tokenizer,
                sequence_length=self.manifest.sequence_length,
            )
            model = build_model(sizes, seed=self.config.seed, device=self.device)
        total, active = parameter_counts(model)
        self.start = replace(self.start, parameters=(total, active))
        self.report(f"{total / 1e6:.1f} M parameters, {active / 1e6:.1f} M active for a token")
        # Lightning puts the mode back after each hook; from_pretrained leaves a model in evaluation mode.
        model.train()
        return MoEModule(model, config=self.config, start_step=self.start.step, optimizer_state=optimizer)

    def _trainer(self, *, validation: ShardDataset) -> pl.Trainer:
        interruption = Interruption(self.report)
        history = self.start.history

        def interrupted() -> bool:
            return interruption.requested

        held_out = HeldOutLoss(
            validation,
            rows=rows_by_family(validation, limit=self.config.validation_rows),
            history=history,
            report=self.report,
            stopping=interrupted,
        )
        return pl.Trainer(
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            devices=[self.device.index] if self.device.type == "cuda" else 1,
            precision="bf16-mixed" if self.config.precision == "bf16-mixed" else "32-true",
            max_steps=self.config.steps - self.start.step,
            max_epochs=-1,
            # In this order they hear of a step: a checkpoint holds the step's loss and validation.
            callbacks=[
                interruption,
                LossHistory(history),
                Progress(history, report=self.report, every_seconds=self.config.log_every_seconds),
                held_out,
                Checkpointing(
                    self._save, every_seconds=self.config.checkpoint_every_seconds, interrupted=interrupted
                ),
            ],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            use_distributed_sampler=False,
        )

    def _save(self, module: MoEModule) -> None:
        ref = CheckpointRef(run=self.run, step=module.steps_done)
        tokenizer = self.manifest.tokenizer
        _check_space(bytes_needed=CHECKPOINT_BYTES_PER_PARAMETER * self.start.parameters[0])
        with TemporaryDirectory(prefix="pixel-checkpoint-") as name:
            folder = Path(name)
            write_checkpoint_folder(
                folder,
                model=module.model,
                optimizer=module.optimizer_state(),
                state=replace(self.start, step=ref.step),
                tokenizer_file=cached_object(
                    self.lake.data, tokenizer.key, sha256=tokenizer.sha256, folder=self.cache
                ),
            )
            publish(self.lake, ref, folder=folder, final=ref.step == self.config.steps)
        prune(self.lake, self.run, keep=KEPT_CHECKPOINTS)
        self.report(f"checkpoint {ref.uri(self.lake)}")


def _check_space(*, bytes_needed: int) -> None:
    free = shutil.disk_usage(gettempdir()).free
    if free < bytes_needed:
        raise CheckpointSpaceError(
            f"A checkpoint needs {bytes_needed / 1e6:,.0f} MB in {gettempdir()} before it is uploaded; {free / 1e6:,.0f} MB are free.",
            hint="Free some space or point TMPDIR at a larger disk, then run again; training goes on from the last checkpoint.",
        )
