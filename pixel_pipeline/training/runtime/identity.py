"""What a run is called: a name derived from all that its weights depend on. Torch-free."""

from hashlib import sha256
from pathlib import PurePath
import re

import orjson

from pixel_pipeline.code_version import code_version
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config.config import TrainingConfig

# The modules that the trained weights depend on. Changing a plot must not train anew.
WEIGHT_MODULES = (
    "pixel_pipeline.training.loop.arithmetic",
    "pixel_pipeline.training.loop.callbacks.early_stopping",
    "pixel_pipeline.training.loop.callbacks.validation",
    "pixel_pipeline.training.config.curriculum",
    "pixel_pipeline.training.data.dataset",
    "pixel_pipeline.training.model.experts.sorted_loop",
    "pixel_pipeline.training.loop.trainer",
    "pixel_pipeline.training.loop.losses",
    "pixel_pipeline.training.model",
    "pixel_pipeline.training.model.factory",
    "pixel_pipeline.training.loop.module",
    "pixel_pipeline.training.data.batch",
    "pixel_pipeline.training.data.row_order",
    "pixel_pipeline.training.evaluation.scoring",
    "pixel_pipeline.training.loop.spike_guard",
    "pixel_pipeline.training.checkpoints.state",
)


def run_identity(
    config: TrainingConfig, manifest: ShardManifest, *, base_digest: str | None
) -> dict[str, object]:
    """Dataset, tokenizer, configuration, base model and code of a run, as plain types."""
    return {
        "dataset_version": manifest.dataset_version,
        "sequence_length": manifest.sequence_length,
        "tokenizer": manifest.tokenizer.digest,
        "base": base_digest,
        "config": config.identity(),
        "code_version": code_version(*WEIGHT_MODULES),
    }


def run_name(config: TrainingConfig, manifest: ShardManifest, *, base_digest: str | None) -> str:
    """`<preset or base>-<12 hex digits>`: the same inputs always give the same name."""
    identity = orjson.dumps(
        run_identity(config, manifest, base_digest=base_digest), option=orjson.OPT_SORT_KEYS
    )
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", PurePath(config.base).name) if config.base else config.preset
    return f"{stem}{'-dense' if config.dense_baseline else ''}-{sha256(identity).hexdigest()[:12]}"
