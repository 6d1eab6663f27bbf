"""Resolves the configuration of a run from all its sources. Torch-free.

Later sources override earlier ones: the profile; defaults for adapters; the priority; the settings; explicit overrides.
"""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from pixel_pipeline.settings import Settings
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.config.curriculum import Curriculum
from pixel_pipeline.training.config.recipes import (
    LEAST_STEPS,
    PREFERENCES,
    PROFILES,
    WARMUP_SHARE,
    Preference,
    Priority,
)
from pixel_pipeline.training.config.yaml_file import read_yaml
from pixel_pipeline.training.errors import TrainingConfigError

# alpha / rank. With a fixed ratio, a step of the adapters has the same effect at every rank.
ADAPTER_SCALE = 2
ADAPTER_CHECKPOINT_SECONDS = 600.0


def training_config(
    settings: Settings,
    manifest: ShardManifest,
    *,
    priority: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainingConfig:
    """Configuration of a run on the given shards; the same for the asset, the command line and the training process.

    Args:
        manifest: Its number of rows decides how many steps an epoch has. Its base model is used unless another is requested.
        priority: Replaces PIXEL_PRIORITY.
        overrides: Fields of TrainingConfig by name; `adapters` may be partial.

    Raises:
        TrainingConfigError: naming each wrong field.
    """
    asked = dict(overrides or {})
    profile = PROFILES[settings.profile]
    values = profile.model_dump() | {"loggers": settings.loggers}
    base = asked.get("base", settings.base_model or manifest.base)
    # A profile with a base model of its own needs no priority.
    default = Priority.balanced if base and profile.base is None else None
    name = priority or settings.priority or default
    preference = PREFERENCES[Priority(name)] if name else None
    if preference is not None:
        values |= {
            "learning_rate": profile.learning_rate * preference.learning_rate_factor,
            "validations": preference.validations,
            "early_stopping_patience": preference.early_stopping_patience,
            "rows_per_micro_batch": preference.rows_per_micro_batch,
            "checkpoint_activations": preference.checkpoint_activations,
        }
        if base:
            values |= _for_adapters(preference, base=base, manifest=manifest, device=profile.device)
    if settings.curriculum_file is not None:
        values["curriculum"] = Curriculum.load(settings.curriculum_file)
    if settings.training_steps is not None:
        asked.setdefault("steps", settings.training_steps)
    values |= asked
    if isinstance(asked.get("adapters"), Mapping):
        values["adapters"] = _adapters(preference, asked["adapters"])
    if preference is not None and "steps" not in asked:
        values |= _steps_of_epochs(preference, manifest, values, fixed_rows="rows_per_step" in asked)
    if "warmup_steps" not in asked and isinstance(values["steps"], int):
        warmup = values["warmup_steps"] if preference is None else round(values["steps"] * WARMUP_SHARE)
        values["warmup_steps"] = max(min(warmup, values["steps"] - 1), 0)
    return TrainingConfig.parse(values)


def read_config_file(path: Path) -> dict[str, Any]:
    """Fields of TrainingConfig from a YAML file; `training_config` checks their values.

    Raises:
        TrainingConfigError: the file cannot be read, or has unknown fields.
    """
    content, _ = read_yaml(path)
    fields = TrainingConfig.model_fields
    unknown = sorted(str(name) for name in content if name not in fields) if isinstance(content, dict) else []
    if not isinstance(content, dict) or unknown:
        problem = f"has unknown fields: {', '.join(unknown)}" if unknown else "has no fields"
        raise TrainingConfigError(f"{path} {problem}.", hint=f"Known fields: {', '.join(sorted(fields))}.")
    return content


def _for_adapters(
    preference: Preference, *, base: str, manifest: ShardManifest, device: str
) -> dict[str, Any]:
    return {
        "base": base,
        "adapters": _adapters(preference, {}),
        "rows_per_step": max(preference.tokens_per_step // manifest.sequence_length, 1),
        "learning_rate": preference.adapter_learning_rate,
        # Decay would pull the adapters to zero, and the model back to its base.
        "weight_decay": 0.0,
        # A profile for a GPU requires one; the other profiles use the best device there is.
        "device": "auto" if device == "cpu" else device,
        # The base model's own format decides.
        "precision": "fp32",
        # Steps take long; a killed process loses at most ten minutes.
        "checkpoint_every_seconds": ADAPTER_CHECKPOINT_SECONDS,
    }


def _adapters(preference: Preference | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Adapters of the priority's rank, overridden by `asked`."""
    values = AdaptersConfig().model_dump() | ({"rank": preference.rank} if preference else {}) | dict(asked)
    if "alpha" not in asked and isinstance(values["rank"], int):
        values["alpha"] = float(ADAPTER_SCALE * values["rank"])
    return values


def _steps_of_epochs(
    preference: Preference, manifest: ShardManifest, values: Mapping[str, Any], *, fixed_rows: bool
) -> dict[str, Any]:
    """Steps that read the training split as often as the priority asks; small data sets get smaller batches."""
    train = manifest.splits.get("train")
    rows = preference.epochs * (train.rows if train else 0)
    per_step = values["rows_per_step"]
    if not isinstance(per_step, int) or per_step < 1:
        return {}
    if not fixed_rows and rows / per_step < LEAST_STEPS:
        per_step = max(int(rows // LEAST_STEPS), 1)
    return {"rows_per_step": per_step, "steps": max(ceil(rows / per_step), 1)}
