"""One skinny product per expert. Imports torch.

On a GPU in bf16, `grouped_mm` runs one kernel for all experts. Otherwise a loop, which is faster on a CPU for such skinny products
and has no alignment requirements.
"""

import torch
from torch import Tensor
import torch.nn.functional as F

from pixel_pipeline.training.model.experts.dispatch import Dispatch


def expert_products(x_SN: Tensor, weight_ENM: Tensor, dispatch: Dispatch) -> Tensor:
    """Multiply rows [S, N], sorted by expert, with the matrix of their expert; returns [S, M]."""
    if x_SN.is_cuda and x_SN.dtype == torch.bfloat16:
        return grouped_products(x_SN, weight_ENM, dispatch)
    rows = x_SN.split(dispatch.count_E.tolist())  # type: ignore[no-untyped-call]
    return torch.cat([some @ weight for some, weight in zip(rows, weight_ENM, strict=True)])


def grouped_products(x_SN: Tensor, weight_ENM: Tensor, dispatch: Dispatch) -> Tensor:
    """The same by `grouped_mm`, which requires rows of a multiple of 16 bytes."""
    ends_E = dispatch.count_E.cumsum(0, dtype=torch.int32)
    return F.grouped_mm(x_SN, weight_ENM, offs=ends_E)
