"""Attention masks of packed rows, in the best form for the device. Imports torch."""

from typing import Any

import torch
from torch import Tensor

from pixel_pipeline.training.data.batch import PackedBatch


def attention_implementation(device: torch.device) -> str:
    """Name of the attention implementation in transformers that fits `packed_attention`."""
    return "flex_attention" if device.type == "cuda" else "sdpa"


def packed_attention(batch: PackedBatch, *, dtype: torch.dtype, window: int | None = None) -> Any:
    """The `attention_mask` for transformers: a token attends to itself and earlier tokens of its own conversation.

    Args:
        dtype: Dtype of the model.
        window: Size of a sliding window, including the token itself; None for none.

    Returns:
        A `BlockMask` on a GPU, with one bit per block of 128 * 128; otherwise [B, 1, L, L], added to the scores.
    """
    if batch.tokens.is_cuda:
        return block_mask(batch.documents, window=window)
    mask = batch.attention
    if window is not None and window < mask.size(-1):
        length = mask.size(-1)
        near = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
        mask = mask.masked_fill(~near, float("-inf"))
    return mask.to(dtype)


def block_mask(documents: Tensor, *, window: int | None) -> Any:
    """The `BlockMask` of causal attention within documents [B, L]."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        allowed = (query >= key) & (documents[row, query] == documents[row, key])
        return allowed if window is None else allowed & (query - key < window)

    rows, length = documents.shape
    return create_block_mask(seen, B=rows, H=None, Q_LEN=length, KV_LEN=length, device=documents.device.type)
