"""The interface of a trained model for training, scoring and generation. Imports torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixel_pipeline.training.data.batch import PackedBatch


class TrainedModel(ABC, nn.Module):
    """A transformers model that is trained, whole or in part.

    Attributes:
        model: The transformers model; `generate` and plain calls work as usual.
        experts: Experts per layer with experts; 1 without a router.
        experts_per_token: Experts per token.
    """

    model: Any
    experts: int
    experts_per_token: int

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        device: torch.device = self.model.device
        return device

    @property
    def context_length(self) -> int:
        """Maximum number of tokens in a row."""
        return int(self.model.config.max_position_embeddings)

    @property
    def head_weight(self) -> Tensor:
        """Output head, [V, H]."""
        weight: Tensor = self.model.lm_head.weight
        return weight

    @abstractmethod
    def hidden_and_routing(
        self, batch: PackedBatch, *, pull_TE: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run packed rows; conversations do not attend to each other.

        Args:
            pull_TE: Bias added to the router logits in training, from `domain_pull`.

        Returns:
            Hidden states at the target positions [N, H], and router logits [B * L, E] of each layer with a router.
        """

    @abstractmethod
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters by their names in checkpoints, in a fixed order."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the trained weights as safetensors, and the files needed to use them, into an empty folder."""

    @abstractmethod
    def parameter_counts(self) -> tuple[int, int]:
        """(total, active per token), including frozen ones."""

    @abstractmethod
    def flops_per_token(self, length: int) -> float:
        """Operations of forward and backward per token in a row of `length` tokens; see `cost` for the conventions."""

    @abstractmethod
    def checkpoint_activations(self, enabled: bool) -> None:
        """Keep only each layer's input for the backward pass and recompute the rest."""

    @abstractmethod
    def compile_blocks(self) -> None:
        """Compile each decoder layer as one graph."""

    def copy_of_trained(self) -> dict[str, Tensor]:
        """The trained tensors on the CPU, in memory of their own."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.trained_parameters().items()}

    def load_trained(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `copy_of_trained` gave."""
        with torch.no_grad():
            for name, parameter in self.trained_parameters().items():
                parameter.copy_(tensors[name])
