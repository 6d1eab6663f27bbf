"""A frozen base model with trained adapters. Imports torch."""

from pathlib import Path
from typing import Any

import orjson
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.checkpoints.run_state import ADAPTER_FILE
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.data.batch import PackedBatch
from pixel_pipeline.training.model.adapter_state import (
    adapter_description,
    adapter_parameters,
    adapter_state,
    load_adapter_state,
)
from pixel_pipeline.training.model.cost import FrozenPrecision, MixtureCost
from pixel_pipeline.training.model.mixture import Mixture, build_mixture
from pixel_pipeline.training.model.trained_model import TrainedModel

DESCRIPTION_FILE = "adapter.json"


class AdaptedModel(TrainedModel):
    """LoRA experts on a base model, or plain LoRA if `adapters.experts` is 1.

    Args:
        seed: Seed of the adapters' initial weights.
        frozen_precision: See `build_mixture`.
    """

    def __init__(
        self,
        base: BaseModel,
        adapters: AdaptersConfig,
        *,
        seed: int,
        device: torch.device,
        frozen_precision: FrozenPrecision = "model",
    ) -> None:
        super().__init__()
        self.base = base
        self.adapters = adapters
        self.experts = adapters.experts
        self.experts_per_token = adapters.experts_per_token
        # The stored dtype on a GPU. A CPU is not slower in fp32, and more precise.
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        dense: Any = AutoModelForCausalLM.from_pretrained(
            base.folder, dtype=dtype, device_map=device, local_files_only=True, use_safetensors=True
        )
        self.mixture: Mixture = build_mixture(dense, adapters, seed=seed, frozen_precision=frozen_precision)
        self.model = dense

    def hidden_and_routing(
        self, batch: PackedBatch, *, pull_TE: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.mixture.hidden_and_routing(batch, pull_TE=pull_TE)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return adapter_parameters(self.mixture)

    def write(self, folder: Path) -> None:
        """Write the adapters and their description; base weights are not copied."""
        save_file(adapter_state(self.mixture), folder / ADAPTER_FILE)
        description = adapter_description(
            self.adapters, layers=self.base.layers, base=self.base.name, base_digest=self.base.digest
        )
        (folder / DESCRIPTION_FILE).write_bytes(
            orjson.dumps(description, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
        )

    def read(self, folder: Path) -> None:
        """Load the adapters of a checkpoint.

        Raises:
            AdapterError: names or shapes differ.
        """
        load_adapter_state(self.mixture, load_file(folder / ADAPTER_FILE))

    @property
    def cost(self) -> MixtureCost:
        """Cost of a step."""
        return MixtureCost(
            self.base.config,
            self.adapters,
            bytes_per_value=self.model.dtype.itemsize,
            frozen_precision=self.mixture.frozen_precision,
        )

    def parameter_counts(self) -> tuple[int, int]:
        frozen = self.cost.frozen_parameters
        idle = self.adapters.experts - self.adapters.experts_per_token
        parameters = self.trained_parameters()
        in_experts = sum(p.numel() for name, p in parameters.items() if ".experts." in name)
        trained = sum(p.numel() for p in parameters.values())
        return frozen + trained, frozen + trained - in_experts * idle // self.adapters.experts

    def flops_per_token(self, length: int) -> float:
        return self.cost.flops_per_token(length)

    def checkpoint_activations(self, enabled: bool) -> None:
        self.mixture.checkpoint_activations(enabled)

    def compile_blocks(self) -> None:
        self.mixture.compile_blocks()
