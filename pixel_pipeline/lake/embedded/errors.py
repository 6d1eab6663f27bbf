"""Errors of the embedded server."""

from pixel_pipeline.errors import PixelError


class EmbeddedServerError(PixelError):
    """The embedded S3 server cannot be started or stopped."""


class DiskFullError(PixelError):
    """Too little free disk for the lake."""
