"""What training, scoring and generation need of a model, whatever is trained of it. Imports torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixel_pipeline.training.data.batch import PackedBatch


class TrainedModel(ABC, nn.Module):
    """A transformers model of which all or a part is trained.

    Attributes:
        model: The transformers model; `generate` and plain calls work as ever.
        experts: In each layer that has some; 1 where there is no router.
        experts_per_token: Experts that see each token.
    """

    model: Any
    experts: int
    experts_per_token: int

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.model.device
        return device

    @property
    def context_length(self) -> int:
        """Most tokens of a row."""
        return int(self.model.config.max_position_embeddings)

    @property
    def head_weight(self) -> Tensor:
        """[V, H] of the output head."""
        weight: Tensor = self.model.lm_head.weight
        return weight

    @abstractmethod
    def hidden_and_routing(
        self, batch: PackedBatch, *, pull_TE: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run packed rows, each conversation by itself.

        Args:
            pull_TE: Added to the logits of every router in training; of `domain_pull`.

        Returns:
            Hidden states at the target positions [N, H], and router logits [B * L, E] of each layer with a router.
        """

    @abstractmethod
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by the name that checkpoints know it by, in a fixed order."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write what was trained, as safetensors, and what is needed to use it, into an empty folder."""

    @abstractmethod
    def parameter_counts(self) -> tuple[int, int]:
        """(total, active for one token), frozen ones included."""

    @abstractmethod
    def flops_per_token(self, length: int) -> float:
        """Operations of forward and backward for a token of a row of `length` tokens; see `cost` for what counts."""

    @abstractmethod
    def checkpoint_activations(self, enabled: bool) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again."""

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
