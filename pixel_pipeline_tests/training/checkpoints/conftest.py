"""A run whose checkpoints are a few files of known bytes, and a lake behind a faulty proxy."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
from pixel_pipeline_tests.lake.conftest import connect, proxy, server  # noqa: F401

RUN = "nano-1"


def write(uploads: CheckpointUploads, step: int, *, content: bytes = b"weights", **marks: Any) -> None:
    """Write a checkpoint and queue its upload."""
    with uploads.writing(step, bytes_needed=len(content), **marks) as folder:
        (folder / "model.safetensors").write_bytes(content)
        (folder / "state.json").write_bytes(b'{"step": %d}' % step)


@pytest.fixture
def lines() -> list[str]:
    """The reported lines."""
    return []


@pytest.fixture
def start(lake: Lake, tmp_path: Path, lines: list[str]) -> Iterator[Callable[..., CheckpointUploads]]:
    """Opens the uploads of a run and expects a newest step in the lake; all threads end with the test."""
    started: list[CheckpointUploads] = []

    def open_uploads(
        through: Lake = lake, *, recovered: int | None = None, **options: Any
    ) -> CheckpointUploads:
        defaults: dict[str, Any] = {"run": RUN, "spool": tmp_path / "spool", "keep": 2, "first_pause": 0.05}
        uploads = CheckpointUploads(through, report=lines.append, **{**defaults, **options})
        started.append(uploads)
        assert uploads.recover() == recovered
        return uploads

    yield open_uploads
    for uploads in started:
        with suppress(PixelError, RuntimeError):
            uploads.close(timeout=0)
