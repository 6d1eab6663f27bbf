"""Lightning as the loop uses it. Imports torch."""

from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.loggers import Logger
import torch

from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.model.factory import uses_autocast


def lightning_trainer(
    module: MoEModule,
    *,
    device: torch.device,
    callbacks: list[pl.Callback],
    logger: list[Logger] | Literal[False] = False,
) -> pl.Trainer:
    """A trainer for one pass over a loader of steps, without Lightning's own checkpoints, progress bar and summary."""
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index] if device.type == "cuda" else 1,
        precision="bf16-mixed" if uses_autocast(module.config, module.trained) else "32-true",
        max_epochs=1,
        callbacks=callbacks,
        logger=logger,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def fit(trainer: pl.Trainer, module: MoEModule, batches: object) -> None:
    """Train; a signal that Lightning itself handles raises KeyboardInterrupt."""
    try:
        trainer.fit(module, train_dataloaders=batches)
    except SystemExit:
        raise KeyboardInterrupt from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine is out of memory. The CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
