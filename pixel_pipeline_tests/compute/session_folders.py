"""Where the processes of a Ray session keep their files."""

from collections.abc import Iterable
from pathlib import Path

import psutil


def session_folders(processes: Iterable[psutil.Process]) -> set[Path]:
    """The folders in /tmp of the sessions that these processes belong to."""
    return {
        Path(*Path(file.path).parts[:3])
        for process in processes
        for file in process.open_files()
        if "/session_" in file.path
    }
