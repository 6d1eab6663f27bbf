"""Runs `pixel` inside the test process, as its entry point does."""

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from pixel_pipeline.cli import main


@dataclass(frozen=True)
class Finished:
    """A finished command."""

    code: int
    stdout: str
    stderr: str


def pixel(*arguments: str | Path) -> Finished:
    """Run `pixel ARGUMENTS…` with its output in pipes."""
    stdout, stderr = TextIOWrapper(BytesIO(), encoding="utf-8"), TextIOWrapper(BytesIO(), encoding="utf-8")
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    written = []
    for stream in (stdout, stderr):
        stream.flush()
        assert isinstance(stream.buffer, BytesIO)
        written.append(stream.buffer.getvalue().decode())
    assert isinstance(ended.value.code, int)
    return Finished(ended.value.code, *written)
