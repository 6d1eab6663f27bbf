"""The mixture by its definition, slow and plain, as the reference of the fast paths. Imports torch."""

from torch import Tensor
import torch.nn.functional as F

from pixel_pipeline.training.model.experts.ffn import MixtureFFN
from pixel_pipeline.training.model.experts.lora import LoraPair


def plain_forward(ffn: MixtureFFN, x: Tensor) -> Tensor:
    """Every expert as a full FFN with merged weights, on every token; the chosen ones are then weighted and added.

    Same arguments and result as `MixtureFFN.forward` in evaluation: there is no dropout here.
    """
    x_TH = x.reshape(-1, x.size(-1))
    routing = ffn.router(x_TH)
    y_TH = x_TH.new_zeros(x_TH.shape)
    for expert in range(ffn.router.weight.size(0)):
        gate = F.linear(
            x_TH,
            merged(ffn.base.gate_proj.weight, ffn.experts.gate, expert, ffn.scale),
            ffn.base.gate_proj.bias,
        )
        up = F.linear(
            x_TH, merged(ffn.base.up_proj.weight, ffn.experts.up, expert, ffn.scale), ffn.base.up_proj.bias
        )
        out = F.linear(
            ffn.base.act_fn(gate) * up,
            merged(ffn.base.down_proj.weight, ffn.experts.down, expert, ffn.scale),
            ffn.base.down_proj.bias,
        )
        weight_T = (routing.weight_TK * (routing.expert_TK == expert)).sum(dim=1)
        y_TH = y_TH + out * weight_T.unsqueeze(1).to(x.dtype)
    return y_TH.view(x.shape)


def merged(weight: Tensor, pair: LoraPair, expert: int, scale: float) -> Tensor:
    """`W + scale * B A` of one expert, in the dtype of W."""
    return weight + (scale * pair.lora_B[expert] @ pair.lora_A[expert]).to(weight.dtype)
