"""Disables adapters temporarily. Imports torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pixel_pipeline.training.model.adapted_model import AdaptedModel


@contextmanager
def adapters_off(model: AdaptedModel) -> Iterator[None]:
    """Set every lora_B to zero within the block, so that the model computes what its base does; restore them afterwards.

    All experts then equal the base's FFN and their weights sum to 1, so outputs equal the base's up to rounding.
    """
    changed = [p for name, p in model.trained_parameters().items() if name.endswith("lora_B")]
    kept = [parameter.detach().clone() for parameter in changed]
    with torch.no_grad():
        for parameter in changed:
            parameter.zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(changed, kept, strict=True):
                parameter.copy_(value)
