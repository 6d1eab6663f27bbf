"""Random adapters on disk, with all changes at work (trained ones begin with B at zero)."""

from pathlib import Path
from typing import Any

import orjson
from safetensors.torch import save_file
import torch

from pixel_pipeline.training.base.model import BaseModel
from pixel_pipeline.training.export.adapter import (
    DESCRIPTION,
    TENSORS,
    Adapter,
    AdapterDescription,
    adapter_shapes,
)


def write_adapter(
    folder: Path, base: BaseModel, *, seed: int = 0, size: float = 0.3, **changes: Any
) -> Adapter:
    """Write random adapters for a base; `size` is the standard deviation of the change's products, relative to 1/sqrt(in)."""
    content = {
        "base": base.name,
        "base_digest": base.digest,
        "experts": 4,
        "experts_per_token": 2,
        "rank": 3,
        "alpha": 6.0,
        "layers": [*range(base.layers)],
        "attention": True,
        "dropout": 0.0,
        **changes,
    }
    about = AdapterDescription.model_validate(content)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in adapter_shapes(about, base).items():
        tensor = torch.randn(shape, generator=generator)
        if name.endswith("lora_A"):
            tensor /= shape[-1] ** 0.5
        elif name.endswith("lora_B"):
            tensor *= size / about.scale / shape[-1] ** 0.5
        tensors[name] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS)
    (folder / DESCRIPTION).write_bytes(orjson.dumps(content))
    return Adapter.open(folder)
