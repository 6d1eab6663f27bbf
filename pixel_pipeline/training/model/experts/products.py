"""One skinny product for each expert. Imports torch.

On a GPU in bf16 by `grouped_mm`, one kernel for all experts. Elsewhere by a loop: for products as skinny as these it is the faster
on a CPU, and it has no wishes about alignment.
"""

import torch
from torch import Tensor
import torch.nn.functional as F

from pixel_pipeline.training.model.experts.dispatch import Dispatch


def expert_products(x_SN: Tensor, weight_ENM: Tensor, dispatch: Dispatch) -> Tensor:
    """[S, N], rows in the order of their experts, times each row's expert's matrix: [S, M]."""
    if x_SN.is_cuda and x_SN.dtype == torch.bfloat16:
        return grouped_products(x_SN, weight_ENM, dispatch)
    rows = x_SN.split(dispatch.count_E.tolist())  # type: ignore[no-untyped-call]
    return torch.cat([some @ weight for some, weight in zip(rows, weight_ENM, strict=True)])


def grouped_products(x_SN: Tensor, weight_ENM: Tensor, dispatch: Dispatch) -> Tensor:
    """The same by `grouped_mm`, which wants rows of whole 16 bytes."""
    ends_E = dispatch.count_E.cumsum(0, dtype=torch.int32)
    return F.grouped_mm(x_SN, weight_ENM, offs=ends_E)
