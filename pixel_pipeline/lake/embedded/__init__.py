"""A real S3 server on loopback (SeaweedFS), started by the first process that needs it and kept for the next one."""

from pixel_pipeline.lake.embedded.errors import DiskFullError, EmbeddedServerError
from pixel_pipeline.lake.embedded.server import (
    EmbeddedServer,
    describe,
    ensure_bucket,
    ensure_running,
    status,
    stop,
)

__all__ = [
    "DiskFullError",
    "EmbeddedServer",
    "EmbeddedServerError",
    "describe",
    "ensure_bucket",
    "ensure_running",
    "status",
    "stop",
]
