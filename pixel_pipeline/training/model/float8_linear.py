"""Frozen linear layers that multiply in 8 bits. Imports torch.

Values are float8_e4m3fn (Micikevicius et al., 2022, arXiv:2209.05433), with one fp32 scale for each row: of a weight, found once; of an
input, for each token anew, so that one large token costs the others nothing. Their products are added up in fp32.

Only the forward pass is in 8 bits. The gradient of the input is a product with the weight in the gradient's own precision: it needs a
scale along another side of the weight, and gradients need more of the range than e4m3 has. That leaves it exact for the rounded weight, the
rounding of inputs passing it through, at the price of one matrix made 16 bits wide again at a time.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pixel_pipeline.training.errors import AdapterError

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
# Of Ada and Hopper, the first with products in 8 bits.
LEAST_CAPABILITY = (8, 9)
# Sizes are whole multiples of it.
ALIGNMENT = 16


class Float8Linear(nn.Module):
    """`x @ weight.T + bias` for a frozen layer; [..., in] -> [..., out], in the dtype of `x`.

    Args:
        base: Taken over; its weight may be let go of.

    Attributes:
        weight_OI: float8 [out, in].
        scale_O1: fp32 [out, 1].
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        weight_OI, scale_O1 = rounded(base.weight.detach())
        self.register_buffer("weight_OI", weight_OI)
        self.register_buffer("scale_O1", scale_O1)
        self.bias = base.bias

    def forward(self, x: Tensor) -> Tensor:
        y_TO: Tensor = _Product.apply(x.flatten(0, -2), self.weight_OI, self.scale_O1)  # type: ignore[no-untyped-call]
        if self.bias is not None:
            y_TO = y_TO + self.bias
        return y_TO.view(*x.shape[:-1], self.out_features)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight_OI: Tensor, scale_O1: Tensor) -> Tensor:
        ctx.save_for_backward(weight_OI, scale_O1)
        x8_TI, scale_T1 = rounded(x_TI)
        return torch._scaled_mm(
            x8_TI, weight_OI.t(), scale_a=scale_T1, scale_b=scale_O1.t(), out_dtype=x_TI.dtype
        )

    @staticmethod
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        weight_OI, scale_O1 = ctx.saved_tensors
        return (grad_TO * scale_O1.t().to(grad_TO.dtype)) @ weight_OI.to(grad_TO.dtype), None, None


def rounded(x_NM: Tensor) -> tuple[Tensor, Tensor]:
    """(float8 [N, M], fp32 [N, 1]) whose product is `x_NM` to a sixteenth of each value, or to 2^-18 of its row's largest."""
    x_NM = x_NM.float()
    # A row of zeros stays one.
    scale_N1 = (
        x_NM.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny * LARGEST) / LARGEST
    )
    return (x_NM / scale_N1).to(FLOAT8), scale_N1


def check_float8(model: nn.Module, *, device: torch.device, dtype: torch.dtype) -> None:
    """Raise AdapterError, saying what to do, where the linear layers of a model cannot be multiplied in 8 bits."""
    hint = "Leave `frozen_precision` at `model`."
    if device.type not in {"cpu", "cuda"}:
        raise AdapterError(f"There are no products in 8 bits on a device of type {device.type}.", hint=hint)
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < LEAST_CAPABILITY:
            raise AdapterError(
                f"Products in 8 bits need a GPU of compute capability 8.9; this one has {'.'.join(map(str, capability))}.",
                hint=hint,
            )
        if dtype != torch.bfloat16:
            raise AdapterError(
                f"On a GPU products in 8 bits give bfloat16; the model is in {str(dtype).removeprefix('torch.')}.",
                hint="Load the base model in bfloat16.",
            )
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and (layer.in_features % ALIGNMENT or layer.out_features % ALIGNMENT):
            raise AdapterError(
                f"Products in 8 bits need sizes in multiples of {ALIGNMENT}; {name} is {layer.in_features} by {layer.out_features}.",
                hint=hint,
            )
