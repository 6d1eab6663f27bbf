"""Reading S3 in forked processes, which is refused: the client's threads stay in the parent."""

import os

from pixel_pipeline.errors import PixelError

# The process that first read S3; a forked one inherits the value.
_readers: set[int] = set()


class ForkedProcessError(PixelError):
    """S3 cannot be read in a process that was forked after S3 was read."""


def check_not_forked() -> None:
    """Raise ForkedProcessError in such a process, where a request would wait forever."""
    if not _readers:
        _readers.add(os.getpid())
    if os.getpid() not in _readers:
        raise ForkedProcessError(
            "S3 was read before this process was forked, and its client would wait for threads that the fork does not have.",
            hint='Start worker processes by "spawn" (DataLoader: multiprocessing_context="spawn"), or read S3 only in them.',
        )
