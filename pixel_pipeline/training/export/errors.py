"""Errors of exports. Torch-free."""

from pixel_pipeline.errors import PixelError


class ExportError(PixelError):
    """An export is impossible: adapters of another base, a full disk, or an existing target."""


class ExportCorruptError(PixelError):
    """Files of an export are missing or changed."""
