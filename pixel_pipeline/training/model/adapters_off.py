"""The base model alone, by the model that has adapters on it. Imports torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pixel_pipeline.training.model.adapted_model import AdaptedModel


@contextmanager
def adapters_off(model: AdaptedModel) -> Iterator[None]:
    """Within the block every B is zero, so that all changes are: what the base itself would say. Then they are as they were.

    Experts are then all the base's FFN, and their weights sum to 1: equal to it within the rounding of that sum.
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
