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
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.config.curriculum import Curriculum
from pixel_pipeline.training.config.priorities import (
    LEAST_STEPS,
    PREFERENCES,
    WARMUP_SHARE,
    Preference,
    Priority,
)
from pixel_pipeline.training.config.profiles import profile_config
from pixel_pipeline.training.errors import TrainingConfigError

# alpha / rank. How far a step of adapters reaches is then the same for all ranks.
ADAPTER_SCALE = 2
ADAPTER_CHECKPOINT_SECONDS = 600.0


def training_config(
    settings: Settings,
    manifest: ShardManifest,
    *,
    priority: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainingConfig:
    """Configuration of a run on given shards: of the asset, the command line and the training process alike.

    Args:
        manifest: Of the shards. How many rows they have decides how many steps an epoch is; the base model that they were made for is
            trained on unless another is asked for.
        priority: In place of PIXEL_PRIORITY.
        overrides: Fields of TrainingConfig by name; those of `adapters` may be given in part.

    Raises:
        TrainingConfigError: naming each field that is wrong.
        CurriculumError: of PIXEL_CURRICULUM_FILE.
    """
    asked = dict(overrides or {})
    values = profile_config(settings.profile).model_dump() | {"loggers": settings.loggers}
    # A profile that names a base model is complete.
    complete = values["base"] is not None
    base = asked.get("base", settings.base_model or manifest.base)
    wanted = priority or settings.priority or (Priority.balanced if base and not complete else None)
    preference = PREFERENCES[Priority(wanted)] if wanted else None
    if preference is not None:
        values |= _of_priority(preference, values)
        if base:
            values |= _of_adapters(preference, base=base, manifest=manifest, values=values)
    if settings.curriculum_file is not None:
        values["curriculum"] = Curriculum.load(settings.curriculum_file)
    if settings.training_steps is not None:
        asked = {"steps": settings.training_steps, **asked}
    values |= asked
    if isinstance(asked.get("adapters"), Mapping):
        values["adapters"] = _partly(asked["adapters"], preference)
    if preference is not None and "steps" not in asked:
        values |= _steps_of_epochs(preference, manifest, values, fixed_rows="rows_per_step" in asked)
    if "warmup_steps" not in asked and isinstance(values["steps"], int):
        warmup = values["warmup_steps"] if preference is None else round(values["steps"] * WARMUP_SHARE)
        values["warmup_steps"] = max(min(warmup, values["steps"] - 1), 0)
    return TrainingConfig.parse(values)


def read_config_file(path: Path) -> dict[str, Any]:
    """Fields of TrainingConfig from a YAML file.

    Raises:
        TrainingConfigError: the file is missing, or holds something else; `training_config` names fields that are wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise TrainingConfigError(f"{path} cannot be read.", hint="Give the path of a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise TrainingConfigError(f"{path} is not valid YAML{where}.", hint="Correct the file.") from None
    content = {} if content is None else content
    fields = TrainingConfig.model_fields
    unknown = sorted(str(name) for name in content if name not in fields) if isinstance(content, dict) else []
    if not isinstance(content, dict) or unknown:
        what = f"has no fields {', '.join(unknown)} to set" if unknown else "holds no fields"
        raise TrainingConfigError(f"{path} {what}.", hint=f"There are: {', '.join(sorted(fields))}.")
    return content


def _of_priority(preference: Preference, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "learning_rate": values["learning_rate"] * preference.learning_rate_factor,
        "validations": preference.validations,
        "early_stopping_patience": preference.early_stopping_patience,
        "rows_per_micro_batch": preference.rows_per_micro_batch,
        "checkpoint_activations": preference.checkpoint_activations,
    }


def _of_adapters(
    preference: Preference, *, base: str, manifest: ShardManifest, values: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "base": base,
        "adapters": _partly({}, preference),
        "rows_per_step": max(preference.tokens_per_step // manifest.sequence_length, 1),
        "learning_rate": preference.adapter_learning_rate,
        # Decay pulls changes to zero, and so the model back to its base; there are few parameters, and no need.
        "weight_decay": 0.0,
        # A profile that asks for a GPU gets one or refuses. Without such a wish, the best there is.
        "device": "auto" if values["device"] == "cpu" else values["device"],
        # The base's own format decides.
        "precision": "fp32",
        # Steps take long; a killed process loses ten minutes at most.
        "checkpoint_every_seconds": ADAPTER_CHECKPOINT_SECONDS,
    }


def _partly(asked: Mapping[str, Any], preference: Preference | None) -> dict[str, Any]:
    """Adapters of the priority's rank, with what is asked for in place."""
    values = AdaptersConfig().model_dump() | ({"rank": preference.rank} if preference else {}) | dict(asked)
    if "alpha" not in asked and isinstance(values["rank"], int):
        values["alpha"] = float(ADAPTER_SCALE * values["rank"])
    return values


def _steps_of_epochs(
    preference: Preference, manifest: ShardManifest, values: Mapping[str, Any], *, fixed_rows: bool
) -> dict[str, Any]:
    """Steps that read the training split as often as the priority says; of small data sets, in smaller batches."""
    train = manifest.splits.get("train")
    rows = preference.epochs * (train.rows if train else 0)
    per_step = values["rows_per_step"]
    if not isinstance(per_step, int) or per_step < 1:
        return {}
    if not fixed_rows and rows / per_step < LEAST_STEPS:
        per_step = max(int(rows // LEAST_STEPS), 1)
    return {"rows_per_step": per_step, "steps": max(ceil(rows / per_step), 1)}
