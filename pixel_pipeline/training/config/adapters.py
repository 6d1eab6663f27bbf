"""Sizes of the adapters on a frozen dense model: LoRA experts, a router, LoRA on attention. Torch-free."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pixel_pipeline.training.errors import TrainingDataError


class AdaptersConfig(BaseModel):
    """Sizes of the adapters.

    Every expert is the base model's own FFN plus LoRA (Hu et al., 2021, arXiv:2106.09685) on its three matrices, so an expert costs
    `rank * 3 * (hidden + intermediate)` parameters and no copy of the FFN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experts: int = Field(4, gt=0, description="Experts in each layer; 1 is a dense model without a router")
    experts_per_token: int = Field(2, gt=0, description="Experts used for each token")
    rank: int = Field(16, gt=0, description="LoRA rank")
    alpha: float = Field(32.0, gt=0, description="LoRA alpha: adapters are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout")
    layers: tuple[int, ...] | None = Field(None, description="Layers with experts, counted from 0; none: all")
    attention: bool = Field(True, description="Add LoRA to the four matrices of attention, in every layer")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} exceeds experts {self.experts}")
        if self.layers is not None and len({*self.layers}) != len(self.layers):
            raise ValueError("layers lists a layer twice")
        if self.layers == () and not self.attention:
            raise ValueError("nothing would be trained: layers is empty and attention is off")
        return self

    @property
    def scale(self) -> float:
        """Factor of the adapters' output."""
        return self.alpha / self.rank

    @property
    def routed(self) -> bool:
        """Whether there is more than one expert, and so a router."""
        return self.experts > 1

    def layers_of(self, count: int) -> tuple[int, ...]:
        """Layers with experts in a model of `count` layers, ascending.

        Raises:
            ValueError: the model lacks one of them.
        """
        chosen = range(count) if self.layers is None else sorted(self.layers)
        outside = [layer for layer in chosen if not 0 <= layer < count]
        if outside:
            raise ValueError(f"layers {outside} do not exist; the model has {count}, counted from 0")
        return tuple(chosen)


class ExpertDomains(BaseModel):
    """Domains that experts specialize in: in the first steps, a domain's tokens are biased towards its expert.

    Attributes:
        domains: Families or categories; the n-th belongs to expert n modulo the number of experts.
        strength: Bias of the logit of the domain's expert at step 0. It falls linearly to 0.
        teaching: Weight, at step 0, of the loss that trains the router on the domains. It falls like the bias.
        steps: Steps until the bias is 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    domains: tuple[str, ...] = Field(min_length=1, description="Names of the domains")
    strength: float = Field(4.0, gt=0, description="Bias of the logit at step 0")
    teaching: float = Field(
        0.1, ge=0, description="Weight of the router's cross entropy against the domain's expert, at step 0"
    )
    steps: int = Field(gt=0, description="Steps until the bias is 0")

    def strength_at(self, step: int) -> float:
        """Bias of the logit at a step, from 0."""
        return self.strength * self._left(step)

    def teaching_at(self, step: int) -> float:
        """Weight of the router's cross entropy at a step, from 0."""
        return self.teaching * self._left(step)

    def _left(self, step: int) -> float:
        return max(1 - step / self.steps, 0.0)

    def of_families(self, categories: Mapping[str, str]) -> dict[str, str]:
        """Domain of each family: its own name if that is a domain, else its category.

        Args:
            categories: Category of each family of the shards.

        Raises:
            TrainingDataError: a domain is neither a family nor a category.
        """
        found = {
            family: family if family in self.domains else category
            for family, category in categories.items()
            if {family, category} & {*self.domains}
        }
        missing = [name for name in self.domains if name not in found.values()]
        if missing:
            existing = sorted({*categories, *categories.values()})
            raise TrainingDataError(
                f"Expert domains {', '.join(missing)} are neither families nor categories of the token shards.",
                hint=f"Existing ones: {', '.join(existing)}.",
            )
        return found

    def expert_of(self, domain: str | None, *, experts: int) -> int | None:
        """The expert of a domain; None if it is not one of `domains`."""
        return self.domains.index(domain) % experts if domain in self.domains else None
