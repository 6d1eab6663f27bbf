"""Merges one layer of the base and its adapters into Mixtral tensors. Imports torch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pixel_pipeline.training.base.architecture import Shape, layer_shapes
from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.export.adapter import ATTENTION, EXPERTS, Adapter

# Standard Mixtral names: w1 is the gate, w3 the up and w2 the down projection.
WEIGHTS = {"gate": "w1", "up": "w3", "down": "w2"}
NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")


def merged_layer(base: BaseModel, adapter: Adapter, layer: int) -> Iterator[tuple[str, Tensor]]:
    """Tensors of one Mixtral layer by their full names, in the order of `mixtral_shapes`; fp32 if merged.

    In a layer without experts, every expert is the plain FFN and the router is zero: the weights 1/k of k equal outputs add up to
    that output, exactly if k is a power of two.
    """
    about, prefix = adapter.description, f"model.layers.{layer}."
    dense, changes = base.layer_tensors(layer), adapter.layer(layer)
    for name, matrix in ATTENTION.items():
        change = changes.attention.get(name)
        yield (
            prefix + matrix,
            dense[matrix]
            if change is None
            else _merged(dense[matrix].float(), change.A, change.B, about.scale),
        )
    for norm in NORMS:
        yield prefix + norm, dense[norm]
    router = changes.router
    if router is None:
        router = torch.zeros(about.experts, base.config.hidden_size)
    yield f"{prefix}block_sparse_moe.gate.weight", router
    for name, matrix in EXPERTS.items():
        weight = dense[matrix].float()
        change = changes.experts.get(name)
        for expert in range(about.experts):
            yield (
                f"{prefix}block_sparse_moe.experts.{expert}.{WEIGHTS[name]}.weight",
                weight
                if change is None
                else _merged(weight, change.A[expert], change.B[expert], about.scale),
            )


def mixtral_layer_shapes(base: BaseModel, layer: int, *, experts: int) -> dict[str, Shape]:
    """Shapes of the tensors of `merged_layer`, in its order."""
    matrices, prefix = layer_shapes(base.config), f"model.layers.{layer}."
    shapes = {prefix + name: matrices[name] for name in (*ATTENTION.values(), *NORMS)}
    shapes[f"{prefix}block_sparse_moe.gate.weight"] = (experts, base.config.hidden_size)
    for name, matrix in EXPERTS.items():
        for expert in range(experts):
            shapes[f"{prefix}block_sparse_moe.experts.{expert}.{WEIGHTS[name]}.weight"] = matrices[matrix]
    return shapes


def _merged(weight: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """`W + scale * B A` in fp32, because bf16 would round off most of a small change."""
    return torch.addmm(weight, B, A, alpha=scale)
