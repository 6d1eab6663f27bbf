"""A base model, checked by its headers and read layer by layer. Imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
import torch
from torch import Tensor

from pixel_pipeline.registry.base_models import BaseModelCorruptError, BaseModelError, FileDigest, base_digest
from pixel_pipeline.training.base.architecture import (
    ARCHITECTURES,
    EMBEDDING,
    HEAD,
    NATIVE,
    layer_shapes,
    outer_shapes,
    read_config,
    tensor_shapes,
)
from pixel_pipeline.training.base.files import AGAIN, file_digests, model_files, weight_files
from pixel_pipeline.training.base.tokenizer import check_tokenizer

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class BaseModel:
    """A dense Llama or Mistral, or a native mixture of experts, in a local folder; `from_pretrained(base.folder)` loads it whole.

    Attributes:
        name: Name in the lake, or absolute path of a folder, for `open_base`.
        digest: Digest of architecture and weights.
        config: Complete configuration of transformers.
        dtype: Dtype of the stored weights, as in safetensors.
        files: Digests of the model's files.
        shards: File of each tensor.
        parameters: Number of parameters, without a tied output head.
    """

    folder: Path
    name: str
    digest: str
    config: Any
    dtype: str
    files: Mapping[str, FileDigest]
    shards: Mapping[str, str]
    parameters: int

    @property
    def native(self) -> bool:
        """Whether it is a mixture of experts, trained as a whole."""
        return self.config.model_type in NATIVE

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return int(self.config.num_hidden_layers)

    @property
    def architecture(self) -> str:
        """Class name in transformers."""
        return {**ARCHITECTURES, **NATIVE}[str(self.config.model_type)]

    def layer_tensors(self, layer: int) -> dict[str, Tensor]:
        """Tensors of one decoder layer by their names in it (`self_attn.q_proj.weight`), in the stored dtype.

        They are views of the mapped file and take memory only while they are used.
        """
        return self._read(f"model.layers.{layer}.", layer_shapes(self.config))

    def outer_tensors(self) -> dict[str, Tensor]:
        """Embedding, last norm and output head (unless tied), by their names on disk."""
        return self._read("", outer_shapes(self.config))

    def _read(self, prefix: str, names: Mapping[str, object]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for shard in sorted({self.shards[prefix + name] for name in names}):
            try:
                with safe_open(self.folder / shard, framework="pt") as file:
                    for name in names:
                        if self.shards[prefix + name] == shard:
                            found[name] = file.get_tensor(prefix + name)
            except (SafetensorError, OSError):
                raise _damaged(self.folder / shard) from None
        return {name: found[name] for name in names}


def open_folder(
    folder: Path, *, name: str | None = None, files: Mapping[str, FileDigest] | None = None
) -> BaseModel:
    """Open a model folder. Reads all files once to compute digests, unless they are given.

    Args:
        files: Digests that were already verified.

    Raises:
        BaseModelError: unsupported architecture, or a tokenizer of another model.
        BaseModelCorruptError: a file is missing or truncated, or tensors do not match the configuration.
    """
    if not folder.is_dir():
        raise BaseModelError(
            f"There is no folder {folder}.", hint="Give a folder with safetensors and config.json."
        )
    names = model_files(folder)
    config = read_config(folder)
    shards, dtype, parameters = _check_tensors(folder, config)
    check_tokenizer(folder, config)
    digests = file_digests(folder, names) if files is None else files
    return BaseModel(
        folder=folder,
        name=name or str(folder.resolve()),
        digest=base_digest(digests),
        config=config,
        dtype=dtype,
        files=digests,
        shards=shards,
        parameters=parameters,
    )


def _check_tensors(folder: Path, config: Any) -> tuple[dict[str, str], str, int]:
    """File of each tensor, their dtype and number of parameters, from the headers.

    Tensors of a mixture are checked when it is loaded, because each architecture has its own names on disk.
    """
    wanted = None if config.model_type in NATIVE else tensor_shapes(config)
    parameters = 0
    shards: dict[str, str] = {}
    dtypes: dict[str, int] = {}
    unknown: list[str] = []
    for shard in weight_files(folder):
        try:
            with safe_open(folder / shard, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  not a mapping
                    part = file.get_slice(name)
                    if wanted is not None and name not in wanted:
                        # Old checkpoints contain rotary frequencies, which are computed; a tied head may be stored as well.
                        if not name.endswith("rotary_emb.inv_freq") and name != HEAD:
                            unknown.append(name)
                        elif name == HEAD and not _equals_embedding(folder, shard):
                            raise BaseModelError(
                                f"{folder} has an output head of its own, but its config.json ties it to the embedding.",
                                hint="Set tie_word_embeddings to false in config.json.",
                            )
                        continue
                    shape = tuple(part.get_shape())
                    if wanted is not None and shape != wanted[name]:
                        raise BaseModelCorruptError(
                            f"{name} in {shard} is {list(shape)}; config.json asks for {list(wanted[name])}.",
                            hint="Weights and config.json are of different models: take both from one source.",
                        )
                    shards[name] = shard
                    parameters += torch.Size(shape).numel()
                    dtypes[part.get_dtype()] = dtypes.get(part.get_dtype(), 0) + 1
        except (SafetensorError, OSError):
            raise _damaged(folder / shard) from None
    missing = sorted(wanted.keys() - shards.keys()) if wanted is not None else []
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has {unknown[0]}, which its architecture has not"
        count = len(missing or unknown)
        raise BaseModelCorruptError(
            f"{folder} {what}{f' ({count} such tensors)' if count > 1 else ''}.", hint=AGAIN
        )
    strange = sorted(dtypes.keys() - DTYPES.keys())
    if strange:
        raise BaseModelError(
            f"{folder} has weights of type {', '.join(strange)}.",
            hint="Take the model in bf16, fp16 or fp32.",
        )
    return shards, max(dtypes, key=lambda dtype: dtypes[dtype]), parameters


def _equals_embedding(folder: Path, shard: str) -> bool:
    for other in weight_files(folder):
        with safe_open(folder / other, framework="pt") as file:
            if EMBEDDING in file.keys():  # noqa: SIM118  not a mapping
                embedding = file.get_tensor(EMBEDDING)
                with safe_open(folder / shard, framework="pt") as head:
                    return torch.equal(embedding, head.get_tensor(HEAD))
    return False


def _damaged(path: Path) -> BaseModelCorruptError:
    return BaseModelCorruptError(
        f"{path} is missing, truncated or not a safetensors file.",
        hint="Delete it and open the base model again, or copy it again where it is a folder of yours.",
    )
