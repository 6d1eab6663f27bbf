"""Builds models: of a new run, or of a checkpoint. Imports torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import torch

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.files import SIDE_FILES
from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.base.opening import open_base
from pixel_pipeline.training.checkpoints.run_state import ADAPTER_FILE, MODEL_FILE
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef, download
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import AdapterError, TrainingConfigError, TrainingDataError
from pixel_pipeline.training.model.adapted_model import DESCRIPTION_FILE, AdaptedModel
from pixel_pipeline.training.model.cost import FrozenPrecision
from pixel_pipeline.training.model.from_scratch import build_model, load_model, mixtral_config
from pixel_pipeline.training.model.mixture import matched_dense
from pixel_pipeline.training.model.native_model import NativeModel
from pixel_pipeline.training.model.trained_model import TrainedModel

TOKENIZER_FILE = "tokenizer.json"


def new_model(
    config: TrainingConfig,
    manifest: ShardManifest,
    *,
    base: BaseModel | None,
    device: torch.device,
    initial: Path | None = None,
) -> TrainedModel:
    """Build the model of a new run.

    Args:
        initial: Folder of the checkpoint that its first weights are taken from; see `InitialWeights.check`.

    Raises:
        AdapterError: the adapters in `initial` have other sizes.
        TrainingConfigError: adapters' settings for a base model that is a mixture.
        TrainingDataError: the shards have another tokenizer than the base, or their rows exceed its context.
    """
    if base is None:
        sizes = mixtral_config(
            config.model_shape, tokenizer=manifest.tokenizer, sequence_length=manifest.sequence_length
        )
        model = build_model(sizes, seed=config.seed, device=device)
        if initial is not None:
            model.load_state_dict(load_model(initial, device=device).state_dict())
        return NativeModel(model)
    _check_shards(manifest, base)
    if base.native:
        if config.domains is not None or config.dense_baseline:
            raise TrainingConfigError(
                f"The base model {base.name} is a mixture already, and is trained as a whole: no adapters, domains or dense baseline.",
                hint="Leave domains and dense_baseline out, or choose a dense base model.",
            )
        return NativeModel(load_model(initial or base.folder, device=device))
    adapters = config.adapters
    if config.dense_baseline:
        adapters = matched_dense(adapters, base.config)
    adapted = AdaptedModel(
        base, adapters, seed=config.seed, device=device, frozen_precision=config.frozen_precision
    )
    if initial is not None:
        adapted.read(initial)
    return adapted


def read_model(
    folder: Path,
    *,
    base: BaseModel | None,
    device: torch.device,
    frozen_precision: FrozenPrecision = "model",
) -> TrainedModel:
    """Open the model in a checkpoint's folder; `base` is the base model of its adapters.

    Args:
        frozen_precision: See `build_mixture`. Adapters that were trained beside products in 8 bits serve those in full.

    Raises:
        AdapterError: it is another base, or the adapters do not fit.
    """
    if base is None or base.native:
        return NativeModel(load_model(folder, device=device))
    description = orjson.loads((folder / DESCRIPTION_FILE).read_bytes())
    if description["base_digest"] != base.digest:
        raise AdapterError(
            f"The adapters were trained on a base model with digest {description['base_digest'][:12]}…; "
            f"{base.name} has {base.digest[:12]}….",
            hint="Name the base model that they were trained on.",
        )
    sizes = {name: description[name] for name in AdaptersConfig.model_fields}
    model = AdaptedModel(
        base, AdaptersConfig.model_validate(sizes), seed=0, device=device, frozen_precision=frozen_precision
    )
    model.read(folder)
    return model


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint ready for use.

    Attributes:
        folder: Local, with the tokenizer's files and, for a native model, the whole model.
        base: None for a native model.
        weights_sha256: Of the trained weights' file, in hex.
    """

    ref: CheckpointRef
    model: TrainedModel
    base: BaseModel | None
    folder: Path
    weights_sha256: str
    tokenizer_sha256: str


@contextmanager
def open_checkpoint(
    lake: Lake, ref: CheckpointRef, *, home: Path, device: torch.device
) -> Iterator[OpenCheckpoint]:
    """Download a checkpoint, and the base model that its adapters name, and build the model in evaluation mode.

    Raises:
        CheckpointCorruptError, BaseModelError, AdapterError: see their classes.
    """
    manifest = CheckpointManifest.load(lake, ref)
    files = manifest.files
    adapted = ADAPTER_FILE in files
    weights = ADAPTER_FILE if adapted else MODEL_FILE
    wanted = {weights, "config.json", "generation_config.json", DESCRIPTION_FILE, *SIDE_FILES}
    with TemporaryDirectory(prefix="pixel-model-") as name:
        folder = Path(name)
        download(lake, ref, folder=folder, names=sorted(wanted & files.keys()))
        base = None
        if adapted:
            wanted_base = orjson.loads((folder / DESCRIPTION_FILE).read_bytes())["base"]
            base = open_base(lake, wanted_base, home=home)
        model = read_model(folder, base=base, device=device)
        model.train(False)
        yield OpenCheckpoint(
            ref=ref,
            model=model,
            base=base,
            folder=folder,
            weights_sha256=manifest.weights.sha256,
            tokenizer_sha256=files[TOKENIZER_FILE].sha256,
        )


def uses_autocast(config: TrainingConfig, model: TrainedModel) -> bool:
    """Whether products are computed in bf16 of fp32 weights; adapters choose their precisions themselves."""
    return config.precision == "bf16-mixed" and isinstance(model, NativeModel)


def _check_shards(manifest: ShardManifest, base: BaseModel) -> None:
    if manifest.tokenizer.sha256 != base.files[TOKENIZER_FILE].sha256:
        raise TrainingDataError(
            f"The token shards were made with another tokenizer than that of the base model {base.name}.",
            hint=f"Set PIXEL_BASE_MODEL={base.name} and materialize token_shards.",
        )
    context = int(base.config.max_position_embeddings)
    if manifest.sequence_length > context:
        raise TrainingDataError(
            f"The token shards have rows of {manifest.sequence_length:,} tokens; the base model {base.name} was made for {context:,}.",
            hint="Set PIXEL_SEQUENCE_LENGTH to no more, and materialize token_shards.",
        )
