"""Errors of base models. Torch-free."""

from pixel_pipeline.errors import PixelError


class BaseModelError(PixelError):
    """A base model cannot be used: another architecture, a tokenizer of another model, files that are no safetensors."""


class BaseModelNotFoundError(BaseModelError):
    """Neither the lake nor this machine has a base model of this name."""


class BaseModelCorruptError(BaseModelError):
    """A base model's files are missing, cut short or not those that its manifest promises."""
