"""What a run is called: a name derived from all that its weights depend on. Torch-free."""

from hashlib import sha256

import orjson

from pixel_pipeline.code_version import code_version
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config import TrainingConfig

# The modules that the trained weights depend on. Changing a plot must not train anew.
WEIGHT_MODULES = (
    "pixel_pipeline.training.arithmetic",
    "pixel_pipeline.training.callbacks.loss_history",
    "pixel_pipeline.training.callbacks.validation",
    "pixel_pipeline.training.curriculum",
    "pixel_pipeline.training.data",
    "pixel_pipeline.training.experts",
    "pixel_pipeline.training.fit",
    "pixel_pipeline.training.losses",
    "pixel_pipeline.training.model.dispatch",
    "pixel_pipeline.training.model.from_scratch",
    "pixel_pipeline.training.module",
    "pixel_pipeline.training.packing",
    "pixel_pipeline.training.row_order",
    "pixel_pipeline.training.scoring",
    "pixel_pipeline.training.state",
)


def run_identity(config: TrainingConfig, manifest: ShardManifest) -> dict[str, object]:
    """Dataset, tokenizer, configuration and code of a run, as plain types."""
    return {
        "dataset_version": manifest.dataset_version,
        "sequence_length": manifest.sequence_length,
        "tokenizer": manifest.tokenizer.digest,
        "config": config.identity(),
        "code_version": code_version(*WEIGHT_MODULES),
    }


def run_name(config: TrainingConfig, manifest: ShardManifest) -> str:
    """`<preset>-<12 hex digits>`: the same inputs always give the same name."""
    identity = orjson.dumps(run_identity(config, manifest), option=orjson.OPT_SORT_KEYS)
    return f"{config.preset}-{sha256(identity).hexdigest()[:12]}"
