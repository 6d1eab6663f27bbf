"""The name of a run, derived from everything that its weights depend on. Torch-free."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import PurePath
import re

import orjson

from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config.config import TrainingConfig

RECIPE_VERSION = "model-1"
"""Raise it when the same configuration and shards train other weights: runs then get new names and start again."""
# Recorded in every checkpoint: they may change a result by rounding, which is no reason to start a run again.
LIBRARIES = ("torch", "transformers", "lightning", "tokenizers")


def run_identity(
    config: TrainingConfig,
    manifest: ShardManifest,
    *,
    base_digest: str | None,
    init_from: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Dataset, tokenizer, configuration, base model, recipe and first weights of a run, as plain types.

    Args:
        init_from: `InitialWeights.identity()` of a run that starts from a checkpoint.
    """
    identity: dict[str, object] = {
        "dataset_version": manifest.dataset_version,
        "sequence_length": manifest.sequence_length,
        "tokenizer": manifest.tokenizer.digest,
        "base": base_digest,
        "config": config.identity(),
        "recipe": RECIPE_VERSION,
    }
    # Without the key, runs from fresh weights keep their names.
    return identity if init_from is None else {**identity, "init_from": {**init_from}}


def run_name(
    config: TrainingConfig,
    manifest: ShardManifest,
    *,
    base_digest: str | None,
    init_from: Mapping[str, str] | None = None,
) -> str:
    """`<preset or base>-<12 hex digits>`: the same inputs always give the same name."""
    identity = orjson.dumps(
        run_identity(config, manifest, base_digest=base_digest, init_from=init_from),
        option=orjson.OPT_SORT_KEYS,
    )
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", PurePath(config.base).name) if config.base else config.preset
    return f"{stem}{'-dense' if config.dense_baseline else ''}-{sha256(identity).hexdigest()[:12]}"
