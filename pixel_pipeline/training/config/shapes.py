"""Sizes of models from scratch. Torch-free."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ModelShape(BaseModel):
    """Sizes of a Mixtral-style mixture-of-experts decoder (Jiang et al., 2024, arXiv:2401.04088).

    Vocabulary size and context length come from the token shards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_size: int = Field(gt=0, description="Width of the residual stream")
    intermediate_size: int = Field(gt=0, description="Inner width of one expert")
    layers: int = Field(gt=0, description="Decoder layers")
    attention_heads: int = Field(gt=0, description="Query heads")
    key_value_heads: int = Field(gt=0, description="Key and value heads")
    head_dim: int = Field(gt=0, multiple_of=2, description="Width of one head")
    experts: int = Field(4, gt=1, description="Experts in each layer")
    experts_per_token: int = Field(2, gt=0, description="Experts used for each token")
    tied_embeddings: bool = Field(True, description="Share the input embedding with the output head")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} exceeds experts {self.experts}")
        if self.attention_heads % self.key_value_heads:
            raise ValueError(
                f"attention_heads {self.attention_heads} is not a multiple of key_value_heads {self.key_value_heads}"
            )
        return self


PRESETS: dict[str, ModelShape] = {
    "nano": ModelShape(
        hidden_size=192, intermediate_size=384, layers=4, attention_heads=6, key_value_heads=2, head_dim=32
    ),
    "small": ModelShape(
        hidden_size=1024,
        intermediate_size=2816,
        layers=12,
        attention_heads=16,
        key_value_heads=4,
        head_dim=64,
    ),
}
