"""What is trained on top of a frozen dense model: LoRA experts, a router, LoRA on attention. Torch-free."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AdaptersConfig(BaseModel):
    """Sizes of the adapters.

    Every expert is the base model's own FFN plus low-rank changes (Hu et al., 2021, arXiv:2106.09685) of its three matrices, so
    that an expert costs `rank * 3 * (hidden + intermediate)` parameters and no copy of the FFN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experts: int = Field(
        4,
        gt=0,
        description="Experts in each layer; 1 is a dense model without a router",
        json_schema_extra={"unit": "experts"},
    )
    experts_per_token: int = Field(
        2, gt=0, description="Experts that see each token", json_schema_extra={"unit": "experts"}
    )
    rank: int = Field(16, gt=0, description="Rank of every change", json_schema_extra={"unit": "rank"})
    alpha: float = Field(
        32.0, gt=0, description="Changes are multiplied by alpha / rank", json_schema_extra={"unit": "factor"}
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the inputs that the changes do not see in training",
        json_schema_extra={"unit": "ratio"},
    )
    layers: tuple[int, ...] | None = Field(
        None,
        description="Layers that have experts, from 0; none given: all",
        json_schema_extra={"unit": "layers"},
    )
    attention: bool = Field(
        True,
        description="Change the attention's four matrices too, in every layer",
        json_schema_extra={"unit": "flag"},
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} exceeds experts {self.experts}")
        if self.layers is not None and len({*self.layers}) != len(self.layers):
            raise ValueError("layers names a layer twice")
        if self.layers == () and not self.attention:
            raise ValueError("nothing would be trained: layers is empty and attention is off")
        return self

    @property
    def scale(self) -> float:
        """What changes are multiplied by."""
        return self.alpha / self.rank

    @property
    def routed(self) -> bool:
        """True where there is a choice of experts, and so a router."""
        return self.experts > 1

    def layers_of(self, count: int) -> tuple[int, ...]:
        """The layers with experts in a model of `count` layers, ascending.

        Raises:
            ValueError: the model has no such layer.
        """
        chosen = range(count) if self.layers is None else sorted(self.layers)
        outside = [layer for layer in chosen if not 0 <= layer < count]
        if outside:
            raise ValueError(f"layers {outside} do not exist; the model has {count}, counted from 0")
        return tuple(chosen)


class ExpertDomains(BaseModel):
    """Domains that experts are to be named after: in the first steps each domain's tokens are drawn to its expert.

    Attributes:
        domains: Names (families or categories); the n-th belongs to expert n modulo the number of experts.
        strength: What is added to the logit of the domain's expert at step 0. The pull falls linearly to 0.
        teaching: Weight of the loss that teaches the router the domains, at step 0. It falls as the pull does.
        steps: Steps after which routing is the router's alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    domains: tuple[str, ...] = Field(
        min_length=1, description="Names of the domains", json_schema_extra={"unit": "names"}
    )
    strength: float = Field(
        4.0, gt=0, description="Added to the logit at step 0", json_schema_extra={"unit": "logit"}
    )
    teaching: float = Field(
        0.1,
        ge=0,
        description="Weight of the router's cross entropy against the domain's expert, at step 0",
        json_schema_extra={"unit": "ratio"},
    )
    steps: int = Field(gt=0, description="Steps until the pull is gone", json_schema_extra={"unit": "steps"})

    def strength_at(self, step: int) -> float:
        """What is added to the logit at a step, from 0."""
        return self.strength * self._left(step)

    def teaching_at(self, step: int) -> float:
        """Weight of the router's cross entropy at a step, from 0."""
        return self.teaching * self._left(step)

    def _left(self, step: int) -> float:
        return max(1 - step / self.steps, 0.0)

    def expert_of(self, domain: str | None, *, experts: int) -> int | None:
        """The expert of a domain; None where it is not one of `domains`."""
        return self.domains.index(domain) % experts if domain in self.domains else None
