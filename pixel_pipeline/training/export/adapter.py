"""Trained adapters on disk: `adapter.json` describes them, `adapter.safetensors` contains them. Imports torch.

layers.{n}.router.weight                       [E, H]; absent with one expert
layers.{n}.experts.{gate|up}.lora_A, .lora_B   [E, r, H], [E, I, r]
layers.{n}.experts.down.lora_A, .lora_B        [E, r, I], [E, H, r]
layers.{n}.attention.{q|k|v|o}.lora_A, .lora_B [r, in], [out, r]; in every layer or in none
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson
from pydantic import BaseModel as Schema
from pydantic import ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
import torch
from torch import Tensor

from pixel_pipeline.training.base.architecture import Shape, layer_shapes
from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.data.cache import file_sha256
from pixel_pipeline.training.export.errors import ExportError

TENSORS = "adapter.safetensors"
DESCRIPTION = "adapter.json"
ADAPTER_FILES = (DESCRIPTION, TENSORS)
ATTENTION = {name: f"self_attn.{name}_proj.weight" for name in ("q", "k", "v", "o")}
EXPERTS = {name: f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}


class AdapterDescription(Schema):
    """The content of `adapter.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    base: str = Field(description="Name of the base model")
    base_digest: str = Field(description="Digest of the base model's architecture and weights")
    experts: int = Field(gt=0, description="Experts per layer with experts; 1: plain LoRA without a router")
    experts_per_token: int = Field(gt=0, description="Experts per token")
    rank: int = Field(gt=0, description="LoRA rank")
    alpha: float = Field(gt=0, description="LoRA products are scaled by alpha / rank")
    layers: tuple[int, ...] = Field(description="Layers with experts, from 0")
    attention: bool = Field(description="Whether every layer has LoRA on attention")
    dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout in training; unused in an export")

    @property
    def scale(self) -> float:
        """Factor of the LoRA products."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class LowRank:
    """A low-rank change of one matrix, `W + scale * B A`. A [r, in], B [out, r]; or [E, r, in], [E, out, r] for experts."""

    A: Tensor
    B: Tensor

    def to(self, dtype: torch.dtype) -> "LowRank":
        """Cast to another dtype."""
        return LowRank(A=self.A.to(dtype), B=self.B.to(dtype))


@dataclass(frozen=True)
class LayerAdapter:
    """Adapters of one layer. `router` [E, H] is None with one expert; `experts` is empty in layers without experts."""

    router: Tensor | None
    experts: dict[str, LowRank]
    attention: dict[str, LowRank]

    def to(self, dtype: torch.dtype) -> "LayerAdapter":
        """Cast to another dtype."""
        return LayerAdapter(
            router=None if self.router is None else self.router.to(dtype),
            experts={name: change.to(dtype) for name, change in self.experts.items()},
            attention={name: change.to(dtype) for name, change in self.attention.items()},
        )


@dataclass(frozen=True)
class Adapter:
    """A folder of adapters, read layer by layer.

    Attributes:
        sha256: SHA-256 of `adapter.safetensors`, in hex.
    """

    folder: Path
    description: AdapterDescription
    sha256: str

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the description.

        Raises:
            ExportError: a file is missing, or the description is invalid.
        """
        for name in ADAPTER_FILES:
            if not (folder / name).is_file():
                raise ExportError(
                    f"{folder} has no {name}.",
                    hint=f"Give a checkpoint of adapters: {' and '.join(ADAPTER_FILES)}.",
                )
        try:
            description = AdapterDescription.model_validate(orjson.loads((folder / DESCRIPTION).read_bytes()))
        except orjson.JSONDecodeError:
            raise ExportError(
                f"{folder / DESCRIPTION} is not valid JSON.", hint="Copy the checkpoint again."
            ) from None
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
            )
            raise ExportError(
                f"{folder / DESCRIPTION} does not describe adapters: {problems}.",
                hint="Copy the checkpoint again.",
            ) from None
        if description.experts_per_token > description.experts:
            raise ExportError(
                f"{folder / DESCRIPTION} asks for {description.experts_per_token} of {description.experts} experts.",
                hint="Copy the checkpoint again.",
            )
        return cls(folder=folder, description=description, sha256=file_sha256(folder / TENSORS))

    def check(self, base: BaseModel) -> None:
        """Check that the adapters belong to this base, and are complete and finite. Reads all tensors once.

        Raises:
            ExportError: naming the first problems.
        """
        about = self.description
        if about.base_digest != base.digest:
            raise ExportError(
                f"The adapters were trained on {about.base} of digest {about.base_digest[:12]}; {base.name} has "
                f"{base.digest[:12]}.",
                hint="Give the base model that they were trained on: --base.",
            )
        outside = [layer for layer in about.layers if not 0 <= layer < base.layers]
        if outside:
            raise ExportError(
                f"The adapters have experts in layer {outside[0]}; {base.name} has {base.layers}, counted from 0.",
                hint="Copy the checkpoint again.",
            )
        expected = adapter_shapes(about, base)
        problems: list[str] = []
        try:
            with safe_open(self.folder / TENSORS, framework="pt") as file:
                names = {*file.keys()}
                problems += [f"{name} is missing" for name in expected.keys() - names]
                problems += [f"{name} has no place in the model" for name in names - expected.keys()]
                for name in sorted(names & expected.keys()):
                    tensor = file.get_tensor(name)
                    if tuple(tensor.shape) != expected[name]:
                        problems.append(f"{name} is {[*tensor.shape]}, not {[*expected[name]]}")
                    elif not tensor.isfinite().all():
                        problems.append(f"{name} has non-finite values")
        except SafetensorError:
            raise ExportError(
                f"{self.folder / TENSORS} is truncated or not a safetensors file.",
                hint="Copy the checkpoint again.",
            ) from None
        if problems:
            more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise ExportError(
                f"The adapters of {self.folder} cannot be exported: {'; '.join(sorted(problems)[:3])}{more}.",
                hint="Export an earlier checkpoint of the run.",
            )

    def layer(self, number: int) -> LayerAdapter:
        """Read the adapters of one layer, in fp32."""
        about = self.description
        with safe_open(self.folder / TENSORS, framework="pt") as file:

            def read(name: str) -> Tensor:
                tensor: Tensor = file.get_tensor(f"layers.{number}.{name}")
                return tensor.to(torch.float32)

            def pair(name: str) -> LowRank:
                return LowRank(A=read(f"{name}.lora_A"), B=read(f"{name}.lora_B"))

            has_experts = number in about.layers
            return LayerAdapter(
                router=read("router.weight") if has_experts and about.experts > 1 else None,
                experts={name: pair(f"experts.{name}") for name in EXPERTS} if has_experts else {},
                attention={name: pair(f"attention.{name}") for name in ATTENTION} if about.attention else {},
            )


def adapter_shapes(about: AdapterDescription, base: BaseModel) -> dict[str, Shape]:
    """Shapes of all adapter tensors for this base, by name."""
    matrices, rank, experts = layer_shapes(base.config), about.rank, about.experts
    shapes: dict[str, Shape] = {}
    for layer in range(base.layers):
        if layer in about.layers:
            if experts > 1:
                shapes[f"layers.{layer}.router.weight"] = (experts, base.config.hidden_size)
            for name, matrix in EXPERTS.items():
                out, into = matrices[matrix]
                shapes[f"layers.{layer}.experts.{name}.lora_A"] = (experts, rank, into)
                shapes[f"layers.{layer}.experts.{name}.lora_B"] = (experts, out, rank)
        for name, matrix in ATTENTION.items() if about.attention else ():
            out, into = matrices[matrix]
            shapes[f"layers.{layer}.attention.{name}.lora_A"] = (rank, into)
            shapes[f"layers.{layer}.attention.{name}.lora_B"] = (out, rank)
    return shapes
