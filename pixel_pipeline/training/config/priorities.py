"""What a run is to be best at, as tables of settings with their reasons. Torch-free.

A priority says how often the data are read; how many steps that is follows from the shards. So a run has the same steps, and the same
name, whatever window it is given, and goes on in the next.
"""

from dataclasses import dataclass
from enum import StrEnum


class Priority(StrEnum):
    """What matters most."""

    fast = "fast"
    balanced = "balanced"
    quality = "quality"
    memory = "memory"


@dataclass(frozen=True)
class Preference:
    """The settings of a priority.

    Attributes:
        epochs: How often the training split is read.
        tokens_per_step: In a batch of a run with adapters, padding included.
        adapter_learning_rate: Peak, of adapters.
        learning_rate_factor: Of the profile's peak, for models from scratch.
        validations: After the one at step 0.
        early_stopping_patience: Validations without a better loss that end the run; None: never.
        rank: Of the adapters.
        rows_per_micro_batch: None: as many as fit.
        checkpoint_activations: Whether activations are computed twice in any case.
    """

    epochs: float
    tokens_per_step: int
    adapter_learning_rate: float
    learning_rate_factor: float
    validations: int
    early_stopping_patience: int | None
    rank: int
    rows_per_micro_batch: int | None = None
    checkpoint_activations: bool = False


PREFERENCES: dict[Priority, Preference] = {
    # Once through the data, in large batches that keep the device busy. Fewer updates bear, and need, larger ones.
    Priority.fast: Preference(
        epochs=1,
        tokens_per_step=32_768,
        adapter_learning_rate=1e-3,
        learning_rate_factor=1.5,
        validations=3,
        early_stopping_patience=None,
        rank=16,
    ),
    # Every row is seen again once. Batches small enough for several hundred updates on a few million tokens.
    Priority.balanced: Preference(
        epochs=2,
        tokens_per_step=16_384,
        adapter_learning_rate=5e-4,
        learning_rate_factor=1.0,
        validations=8,
        early_stopping_patience=None,
        rank=16,
    ),
    # Smaller updates over more epochs. Held-out rows are scored often, and end the run where more epochs would only learn by heart.
    Priority.quality: Preference(
        epochs=4,
        tokens_per_step=16_384,
        adapter_learning_rate=3e-4,
        learning_rate_factor=0.7,
        validations=20,
        early_stopping_patience=5,
        rank=32,
    ),
    # One row at a time, each layer's input alone kept, and half of the adapters and of AdamW's state. A third more work.
    Priority.memory: Preference(
        epochs=2,
        tokens_per_step=16_384,
        adapter_learning_rate=5e-4,
        learning_rate_factor=1.0,
        validations=8,
        early_stopping_patience=None,
        rank=8,
        rows_per_micro_batch=1,
        checkpoint_activations=True,
    ),
}

# Of the steps, that the learning rate takes to rise.
WARMUP_SHARE = 0.05
# With fewer updates than this a run learns little, however large its batches: those of small data sets are made smaller.
LEAST_STEPS = 100
