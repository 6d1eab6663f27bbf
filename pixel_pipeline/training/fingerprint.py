"""What a run is called: a name derived from all that its weights depend on. Torch-free."""

from hashlib import sha256
from pathlib import PurePath
import re

import orjson

from pixel_pipeline.code_version import code_version
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config import TrainingConfig
from pixel_pipeline.training.initial_weights import InitialWeights

# The modules that the trained weights depend on. Changing a plot must not train anew.
WEIGHT_MODULES = (
    "pixel_pipeline.training.arithmetic",
    "pixel_pipeline.training.callbacks.early_stopping",
    "pixel_pipeline.training.callbacks.validation",
    "pixel_pipeline.training.curriculum",
    "pixel_pipeline.training.data",
    "pixel_pipeline.training.experts",
    "pixel_pipeline.training.fit",
    "pixel_pipeline.training.losses",
    "pixel_pipeline.training.model",
    "pixel_pipeline.training.models",
    "pixel_pipeline.training.module",
    "pixel_pipeline.training.packing",
    "pixel_pipeline.training.row_order",
    "pixel_pipeline.training.scoring",
    "pixel_pipeline.training.spike_guard",
    "pixel_pipeline.training.state",
)


def run_identity(
    config: TrainingConfig,
    manifest: ShardManifest,
    *,
    base_digest: str | None,
    initial: InitialWeights | None = None,
) -> dict[str, object]:
    """Dataset, tokenizer, configuration, base model, code and first weights of a run, as plain types."""
    identity: dict[str, object] = {
        "dataset_version": manifest.dataset_version,
        "sequence_length": manifest.sequence_length,
        "tokenizer": manifest.tokenizer.digest,
        "base": base_digest,
        "config": config.identity(),
        "code_version": code_version(*WEIGHT_MODULES),
    }
    # Without the key, runs from fresh weights keep their names.
    return identity if initial is None else {**identity, "init_from": initial.identity()}


def run_name(
    config: TrainingConfig,
    manifest: ShardManifest,
    *,
    base_digest: str | None,
    initial: InitialWeights | None = None,
) -> str:
    """`<preset or base>-<12 hex digits>`: the same inputs always give the same name."""
    identity = orjson.dumps(
        run_identity(config, manifest, base_digest=base_digest, initial=initial),
        option=orjson.OPT_SORT_KEYS,
    )
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", PurePath(config.base).name) if config.base else config.preset
    return f"{stem}{'-dense' if config.dense_baseline else ''}-{sha256(identity).hexdigest()[:12]}"
