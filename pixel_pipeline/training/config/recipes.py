"""Named settings of runs, with their reasons: profiles for machines, priorities for goals. Torch-free.

A priority sets how often the data is read; the number of steps follows from the shards. A run therefore has the same steps, and the
same name, in a window of any length.
"""

from dataclasses import dataclass
from enum import StrEnum

from pixel_pipeline.training.config.adapters import AdaptersConfig, ExpertDomains
from pixel_pipeline.training.config.config import TrainingConfig

PROFILES: dict[str, TrainingConfig] = {
    # Sized for two CPU cores. Many small steps: at 245,000 tokens, 240 steps of 2 rows end at a validation loss of 3.7,
    # 60 steps of 8 rows at 5.0.
    "demo": TrainingConfig(
        preset="nano",
        steps=200,
        rows_per_step=2,
        learning_rate=2e-3,
        warmup_steps=20,
        validation_rows=24,
        validations=3,
        log_every_seconds=5,
        checkpoint_every_seconds=40,
        device="cpu",
        precision="fp32",
    ),
    # Adapters on SmolLM2-135M in about seven minutes on two cores: 40 steps of 1,024 tokens.
    "chat": TrainingConfig(
        base="smollm2",
        adapters=AdaptersConfig(experts=4, experts_per_token=2, rank=8, alpha=16),
        domains=ExpertDomains(
            domains=("professional_therapeutic", "crisis_support", "addiction_recovery", "cot_reasoning"),
            steps=20,
        ),
        steps=40,
        rows_per_step=2,
        learning_rate=2e-3,
        warmup_steps=4,
        weight_decay=0.0,
        # Only a few steps are left to even out the effect of the domains on the routers.
        router_aux_loss_coefficient=0.05,
        validation_rows=9,
        validations=2,
        log_every_seconds=10,
        checkpoint_every_seconds=120,
        device="cpu",
        precision="fp32",
    ),
    "h100": TrainingConfig(
        preset="small",
        steps=4000,
        rows_per_step=128,
        learning_rate=6e-4,
        warmup_steps=200,
        validation_rows=256,
        validations=20,
        log_every_seconds=10,
        checkpoint_every_seconds=1800,
        device="h100",
        precision="bf16-mixed",
    ),
}


class Priority(StrEnum):
    """The goal of a run."""

    fast = "fast"
    balanced = "balanced"
    quality = "quality"
    memory = "memory"


@dataclass(frozen=True, kw_only=True)
class Preference:
    """The settings of a priority.

    Attributes:
        epochs: Number of times the training split is read.
        tokens_per_step: In a batch of a run with adapters, padding included.
        adapter_learning_rate: Peak, for adapters.
        learning_rate_factor: Multiple of the profile's peak, for models from scratch.
        validations: After the one at step 0.
        early_stopping_patience: Validations without a better loss that end the run; None: never.
        rank: Of the adapters.
        rows_per_micro_batch: None: as many as fit.
        checkpoint_activations: Always recompute activations, even if they fit.
    """

    epochs: float
    tokens_per_step: int = 16_384
    adapter_learning_rate: float
    learning_rate_factor: float
    validations: int
    early_stopping_patience: int | None = None
    rank: int
    rows_per_micro_batch: int | None = None
    checkpoint_activations: bool = False


PREFERENCES: dict[Priority, Preference] = {
    # One epoch in large batches that keep the device busy. Fewer updates need, and tolerate, a higher learning rate.
    Priority.fast: Preference(
        epochs=1,
        tokens_per_step=32_768,
        adapter_learning_rate=1e-3,
        learning_rate_factor=1.5,
        validations=3,
        rank=16,
    ),
    # Every row is read twice, in batches small enough for several hundred updates on a few million tokens.
    Priority.balanced: Preference(
        epochs=2, adapter_learning_rate=5e-4, learning_rate_factor=1.0, validations=8, rank=16
    ),
    # Smaller updates over more epochs. Frequent validations end the run before it memorizes the data.
    Priority.quality: Preference(
        epochs=4,
        adapter_learning_rate=3e-4,
        learning_rate_factor=0.7,
        validations=20,
        early_stopping_patience=5,
        rank=32,
    ),
    # One row at a time, only each layer's input kept, half the adapters and half of AdamW's state. A third more computation.
    Priority.memory: Preference(
        epochs=2,
        adapter_learning_rate=5e-4,
        learning_rate_factor=1.0,
        validations=8,
        rank=8,
        rows_per_micro_batch=1,
        checkpoint_activations=True,
    ),
}

# Share of the steps in which the learning rate rises.
WARMUP_SHARE = 0.05
# With fewer updates a run learns little at any batch size: small data sets get smaller batches.
LEAST_STEPS = 100
