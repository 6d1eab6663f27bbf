"""The configuration of a run, from all that has a say in it. Torch-free.

What comes later wins: the profile; for adapters, what suits them; the priority; the settings; what was asked for by name.
"""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from pixel_pipeline.settings import Settings
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config import TrainingConfig
from pixel_pipeline.training.curriculum import Curriculum
from pixel_pipeline.training.errors import TrainingConfigError
from pixel_pipeline.training.priorities import LEAST_STEPS, PREFERENCES, WARMUP_SHARE, Preference, Priority
from pixel_pipeline.training.profiles import profile_config

# AdamW pulls a LoRA matrix that is pulled to zero back to the base model; adapters are small enough without.
ADAPTER_WEIGHT_DECAY = 0.0
# alpha / rank: how far a step of adapters reaches does not depend on their rank.
ADAPTER_SCALE = 2


def training_config(
    settings: Settings,
    manifest: ShardManifest,
    *,
    priority: Priority | str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainingConfig:
    """Configuration of a run on given shards: of the asset, the command line and the training process alike.

    Args:
        manifest: Of the shards; their number of rows decides how many steps an epoch has. The base model that they were made for is
            trained on unless another is asked for.
        priority: In place of PIXEL_PRIORITY.
        overrides: Fields of TrainingConfig by name; those of `adapters` may be given in part.

    Raises:
        TrainingConfigError: naming each field that is wrong.
        PixelError: of the profile or the curriculum.
    """
    asked = dict(overrides or {})
    values = profile_config(settings.profile).model_dump()
    base = asked.get("base", settings.base_model or manifest.base)
    wanted = priority or settings.priority or (Priority.balanced if base else None)
    preference = PREFERENCES[Priority(wanted)] if wanted else None
    if base:
        assert preference is not None
        values |= _adapter_values(base, preference, required_device=values["device"])
    elif preference is not None:
        values["learning_rate"] *= preference.learning_rate_factor
    if preference is not None:
        values |= _preferred_values(preference)
    if settings.curriculum_file is not None:
        values["curriculum"] = Curriculum.load(settings.curriculum_file)
    values = _merged(values, asked)
    if "steps" not in asked:
        if settings.training_steps is not None:
            values["steps"] = settings.training_steps
        elif preference is not None:
            values |= _steps_of_epochs(
                preference, manifest, rows_per_step=asked.get("rows_per_step"), adapters=bool(base), values=values
            )
    if "warmup_steps" not in asked:
        warmup = round(values["steps"] * WARMUP_SHARE) if preference else values["warmup_steps"]
        values["warmup_steps"] = min(warmup, max(values["steps"] - 1, 0)) if isinstance(values["steps"], int) else 0
    return TrainingConfig.parse(values)
