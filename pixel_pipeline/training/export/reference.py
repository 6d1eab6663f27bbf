"""The unmerged model, base plus adapters, as the reference of an export. Imports torch.

Plain loops over experts that share no code with the export or the trainer's fast paths.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
import torch.nn.functional as F
from transformers import LlamaForCausalLM, MistralForCausalLM

from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.export.adapter import ATTENTION, Adapter, LayerAdapter, LowRank


def reference_logits(
    base: BaseModel, adapter: Adapter, *, dtype: torch.dtype = torch.float32
) -> Callable[[Tensor], Tensor]:
    """Return a function from token ids [B, T] to logits [B, T, V] of the unmerged model, on the CPU in `dtype`."""
    load: Any = {"llama": LlamaForCausalLM, "mistral": MistralForCausalLM}[base.config.model_type]
    model = load.from_pretrained(base.folder, dtype=dtype, local_files_only=True).eval()
    about = adapter.description
    for number, layer in enumerate(model.model.layers):
        changes = adapter.layer(number).to(dtype)
        for name, matrix in ATTENTION.items():
            if name in changes.attention:
                attribute = matrix.removeprefix("self_attn.").removesuffix(".weight")
                projection = getattr(layer.self_attn, attribute)
                setattr(
                    layer.self_attn, attribute, _Changed(projection, changes.attention[name], about.scale)
                )
        if changes.experts:
            layer.mlp = _Experts(layer.mlp, changes, top_k=about.experts_per_token, scale=about.scale)

    def logits(tokens_BT: Tensor) -> Tensor:
        with torch.inference_mode():
            result: Tensor = model(input_ids=tokens_BT, use_cache=False).logits
            return result

    return logits


class _Changed(nn.Module):
    """`W x + s B (A x)`."""

    def __init__(self, linear: nn.Linear, change: LowRank, scale: float) -> None:
        super().__init__()
        self.linear, self.change, self.scale = linear, change, scale

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.linear(x)
        return changed + self.scale * F.linear(F.linear(x, self.change.A), self.change.B)


class _Experts(nn.Module):
    """`y = sum_e w_e (W_down h_e + s B_down_e A_down_e h_e)`, `h_e = act(W_gate x + s B_e A_e x) * (W_up x + s B_e A_e x)`,
    `w` the softmax over the top-k router logits."""

    def __init__(self, mlp: Any, changes: LayerAdapter, *, top_k: int, scale: float) -> None:
        super().__init__()
        self.mlp: Any = mlp
        self.changes, self.top_k, self.scale = changes, top_k, scale

    def forward(self, x: Tensor) -> Tensor:
        x_TH = x.reshape(-1, x.size(-1))
        weight_TE = self._weights(x_TH)
        y_TH = torch.zeros_like(x_TH)
        for expert in range(weight_TE.size(1)):
            gate = self.mlp.gate_proj(x_TH) + self._change("gate", expert, x_TH)
            up = self.mlp.up_proj(x_TH) + self._change("up", expert, x_TH)
            h_TI = self.mlp.act_fn(gate) * up
            out = self.mlp.down_proj(h_TI) + self._change("down", expert, h_TI)
            y_TH = y_TH + weight_TE[:, expert, None] * out
        return y_TH.view(x.shape)

    def _weights(self, x_TH: Tensor) -> Tensor:
        """[T, E]; zero for experts that are not selected."""
        if self.changes.router is None:
            return x_TH.new_ones(x_TH.size(0), 1)
        logits_TE = F.linear(x_TH, self.changes.router)
        chosen = logits_TE.topk(self.top_k, dim=-1)
        return torch.zeros_like(logits_TE).scatter(1, chosen.indices, chosen.values.softmax(-1))

    def _change(self, name: str, expert: int, x: Tensor) -> Tensor:
        change = self.changes.experts[name]
        return self.scale * F.linear(F.linear(x, change.A[expert]), change.B[expert])
