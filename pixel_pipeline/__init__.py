"""Pixel Pipeline: from a messy Drive of conversations to a trustworthy lake and mixture-of-experts checkpoints."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixel_pipeline.lake.loader.loader import (
        S3DatasetLoader,
        get_s3_dataset_path,
        load_dataset_from_s3,
    )

__version__ = "0.1.0"
__all__ = ["S3DatasetLoader", "get_s3_dataset_path", "load_dataset_from_s3"]


def __getattr__(name: str) -> Any:
    # Only who asks for the loader imports it: every worker process and the CLI import this package.
    if name in __all__:
        return getattr(importlib.import_module("pixel_pipeline.lake.loader.loader"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
