"""An FFN with LoRA experts over one frozen FFN. Imports torch."""

from typing import Any

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.model.experts.activation import ExpertInputs, recomputed_activation
from pixel_pipeline.training.model.experts.blocked_activation import blocked_activation
from pixel_pipeline.training.model.experts.lora import LoraPair, add_product, changed_linear
from pixel_pipeline.training.model.router import Router


class LoraExperts(nn.Module):
    """LoRA of all experts of a layer: `gate`, `up` and `down`, each [E, …]."""

    def __init__(
        self, hidden_size: int, intermediate_size: int, *, config: AdaptersConfig, generator: torch.Generator
    ) -> None:
        super().__init__()

        def pair(in_features: int, out_features: int) -> LoraPair:
            return LoraPair(
                in_features, out_features, rank=config.rank, experts=config.experts, generator=generator
            )

        self.gate = pair(hidden_size, intermediate_size)
        self.up = pair(hidden_size, intermediate_size)
        self.down = pair(intermediate_size, hidden_size)


class MixtureFFN(nn.Module):
    """Replaces the dense FFN of a decoder layer.

    Args:
        base: A frozen `LlamaMLP` or `MistralMLP`; not copied.

    Attributes:
        router_logits: [T, E] of the last forward pass, until `Mixture` takes them.
    """

    def __init__(self, base: Any, *, config: AdaptersConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = config.scale
        self.dropout = config.dropout
        hidden_size = base.gate_proj.in_features
        self.router = Router(
            hidden_size,
            experts=config.experts,
            experts_per_token=config.experts_per_token,
            generator=generator,
        )
        self.experts = LoraExperts(
            hidden_size, base.gate_proj.out_features, config=config, generator=generator
        )
        self.router_logits: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden].

        The products with A run for all experts and all tokens at once: with few experts, one product of T rows is cheaper than
        gathering K * T rows.
        """
        x_TH = x.reshape(-1, x.size(-1))
        routing = self.router(x_TH)
        self.router_logits = routing.logits_TE
        gate, up, down = (
            (pair.lora_A.to(x.dtype), pair.lora_B.to(x.dtype))
            for pair in (self.experts.gate, self.experts.up, self.experts.down)
        )
        dropout = self.dropout if self.training else 0.0
        a_QH = torch.cat([gate[0], up[0]]).flatten(0, 1)
        zg_TR, zu_TR = F.linear(F.dropout(x_TH, dropout) if dropout else x_TH, a_QH).chunk(2, dim=1)
        inputs = ExpertInputs(
            g_TI=self.base.gate_proj(x_TH),
            u_TI=self.base.up_proj(x_TH),
            zg_TR=zg_TR,
            zu_TR=zu_TR,
            bg_EIr=gate[1],
            bu_EIr=up[1],
            ad_ErI=down[0],
        )
        if x.is_cpu and dropout == 0 and is_silu(self.base.act_fn):
            mixed_TI, zd_TR = blocked_activation(inputs, routing, scale=self.scale)
        else:
            mixed_TI, zd_TR = recomputed_activation(
                inputs, routing, scale=self.scale, activation=self.base.act_fn, dropout=dropout
            )
        b_RH = down[1].transpose(1, 2).flatten(0, 1)
        return add_product(self.base.down_proj(mixed_TI), zd_TR, b_RH, scale=self.scale).view(x.shape)


class DenseFFN(nn.Module):
    """An FFN with one expert for every token: plain LoRA, the dense baseline."""

    def __init__(self, base: Any, *, config: AdaptersConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = config.scale
        self.dropout = config.dropout
        self.experts = LoraExperts(
            base.gate_proj.in_features, base.gate_proj.out_features, config=config, generator=generator
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""

        def changed(base: nn.Linear, pair: LoraPair, value: Tensor) -> Tensor:
            return changed_linear(
                base,
                value,
                lora_A=pair.lora_A[0],
                lora_B=pair.lora_B[0],
                scale=self.scale,
                dropout=self.dropout if self.training else 0.0,
            )

        gate = changed(self.base.gate_proj, self.experts.gate, x)
        h = self.base.act_fn(gate) * changed(self.base.up_proj, self.experts.up, x)
        return changed(self.base.down_proj, self.experts.down, h)


def is_silu(activation: Any) -> bool:
    """Whether a module is SiLU, of torch or transformers."""
    return type(activation).__name__ in {"SiLU", "SiLUActivation"}
