"""Errors of exports. Torch-free."""

from pixel_pipeline.errors import PixelError


class ExportError(PixelError):
    """An export cannot be made: adapters of another base, no room, a target that is taken."""


class ExportCorruptError(PixelError):
    """The files of an export are not those that were written."""
