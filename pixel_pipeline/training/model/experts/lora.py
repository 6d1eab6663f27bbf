"""Low-rank changes of frozen matrices (Hu et al., 2021, arXiv:2106.09685). Imports torch."""

import torch
from torch import Tensor, nn
import torch.nn.functional as F

# If every B is zero, all experts are equal and the router's gradient is exactly zero. B therefore starts slightly off zero, at
# about half a percent of the base matrices' output.
INITIAL_B_STD = 1e-3


class LoraPair(nn.Module):
    """LoRA matrices of one linear layer, or of each expert's.

    Attributes:
        lora_A: fp32 [r, in], or [E, r, in].
        lora_B: fp32 [out, r], or [E, out, r].
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rank: int,
        experts: int | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        leading = () if experts is None else (experts,)
        bound = in_features**-0.5
        a = torch.empty(*leading, rank, in_features).uniform_(-bound, bound, generator=generator)
        b = torch.empty(*leading, out_features, rank).normal_(std=INITIAL_B_STD, generator=generator)
        self.lora_A = nn.Parameter(a)
        self.lora_B = nn.Parameter(b)


class LoraLinear(LoraPair):
    """A frozen linear layer with LoRA: `base(x) + scale * B A x`."""

    def __init__(
        self, base: nn.Linear, *, rank: int, scale: float, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__(base.in_features, base.out_features, rank=rank, generator=generator)
        self.base = base
        self.scale = scale
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return changed_linear(
            self.base,
            x,
            lora_A=self.lora_A,
            lora_B=self.lora_B,
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
        )


def changed_linear(
    base: nn.Linear, x: Tensor, *, lora_A: Tensor, lora_B: Tensor, scale: float, dropout: float
) -> Tensor:
    """`base(x) + scale * B A dropout(x)`; [..., in] -> [..., out], in the dtype of `x`."""
    z = F.linear(F.dropout(x, dropout) if dropout else x, lora_A.to(x.dtype))
    return add_product(base(x), z, lora_B.to(x.dtype).t(), scale=scale)


def add_product(y: Tensor, z: Tensor, weight: Tensor, *, scale: float) -> Tensor:
    """`y + scale * z @ weight` in one pass over `y`; [..., out], [..., r] and [r, out]."""
    flat = torch.addmm(y.flatten(0, -2), z.flatten(0, -2), weight, alpha=scale)
    return flat.view(y.shape)
