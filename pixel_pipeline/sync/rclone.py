"""The real rclone, with the lake as a remote that exists only in its environment.

`copy`, never `sync`: what disappears from the Drive stays in raw.
"""

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import orjson

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.store import Lake

TRANSFERS = 8
# rclone: "failed with a source or destination that was not found", for directories and for files.
NOT_FOUND_EXIT_CODES = (3, 4)


class SyncError(PixelError):
    """rclone did not copy everything. Names the source, the destination and the failed objects."""


@dataclass(frozen=True)
class SyncReport:
    """What one copy did. Sizes in bytes; `checked` counts objects compared, unchanged ones included."""

    source: str
    destination: str
    copied: int
    copied_bytes: int
    checked: int


def copy_to_lake(
    source: str | Path,
    *,
    lake: Lake,
    prefix: str,
    report: Callable[[dict[str, Any]], None] = lambda stats: None,
) -> SyncReport:
    """Copy a folder, a file or a configured rclone remote (`gdrive:Team/Data`) into the data bucket below `prefix`.

    Objects whose size and modification time are as in the source are left alone, so a second copy moves nothing.

    Args:
        report: Gets rclone's statistics about once a second: `bytes`, `totalBytes`, `transfers`, `totalTransfers`.

    Raises:
        SyncError: the source does not exist, or an object could not be copied.
        PixelError: the lake itself cannot be reached or refuses.
    """
    # Tells of a wrong endpoint, key or bucket in a second; rclone tries for a minute and names none of them.
    lake.data.check()
    destination = f"lake:{lake.data.name}/{prefix}"
    shown = f"{lake.data.uri(prefix)}"
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            _binary(),
            "copy",
            "--use-json-log",
            "--log-level=INFO",
            "--stats=1s",
            "--stats-log-level=NOTICE",
            f"--transfers={TRANSFERS}",
            f"--checkers={2 * TRANSFERS}",
            "--retries=3",
            "--low-level-retries=5",
            # A link could point anywhere on the machine; only what lies in the folder is copied.
            "--skip-links",
            # The settings check the bucket; rclone's own check would need the right to create one.
            "--s3-no-check-bucket",
        ]
        if lake.target.ca_bundle is not None:
            command.append(f"--ca-cert={lake.target.ca_bundle}")
        command += ["--", str(source), destination]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(lake, scratch=Path(scratch)),
        )
        copied: set[str] = set()
        failed: dict[str, str] = {}
        stats: dict[str, Any] = {}
        assert process.stderr is not None
        try:
            for line in process.stderr:
                event = _parse(line)
                if "stats" in event:
                    stats = event["stats"]
                    report(stats)
                elif event.get("object") and event.get("level") == "error":
                    failed[event["object"]] = event.get("msg", "")
                elif event.get("object") and str(event.get("msg", "")).startswith("Copied"):
                    copied.add(event["object"])
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if code in NOT_FOUND_EXIT_CODES:
        raise SyncError(
            f"There is nothing to copy at {source}.", hint="Check the path or PIXEL_DRIVE_REMOTE."
        )
    if code != 0:
        names = ", ".join(sorted(failed)[:5]) or "no object in particular"
        raise SyncError(
            f"rclone could not copy everything from {source} to {shown} (exit code {code}; failed: {names}).",
            hint="What was copied is whole; run it again to copy the rest.",
        )
    return SyncReport(
        source=str(source),
        destination=shown,
        copied=len(copied),
        copied_bytes=int(stats.get("bytes", 0)),
        checked=int(stats.get("checks", 0)) + len(copied),
    )


def _environment(lake: Lake, *, scratch: Path) -> dict[str, str]:
    target = lake.target
    environment = {
        # The user's own remotes stay visible: `gdrive:` is configured there or in RCLONE_CONFIG_GDRIVE_* variables.
        **os.environ,
        "RCLONE_CACHE_DIR": str(scratch),
        "RCLONE_CONFIG_LAKE_TYPE": "s3",
        "RCLONE_CONFIG_LAKE_PROVIDER": "Other" if target.endpoint else "AWS",
        "RCLONE_CONFIG_LAKE_ACCESS_KEY_ID": target.access_key,
        "RCLONE_CONFIG_LAKE_SECRET_ACCESS_KEY": target.secret_key,
        "RCLONE_CONFIG_LAKE_REGION": target.region,
    }
    if target.endpoint is not None:
        environment["RCLONE_CONFIG_LAKE_ENDPOINT"] = target.endpoint
    if target.session_token is not None:
        environment["RCLONE_CONFIG_LAKE_SESSION_TOKEN"] = target.session_token
    return environment


def _parse(line: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        # Before its logger is set up rclone may write plain text; the exit code tells whether it mattered.
        return {}
    return event if isinstance(event, dict) else {}


def _binary() -> str:
    beside_python = Path(sys.executable).parent / "rclone"
    found = str(beside_python) if beside_python.is_file() else shutil.which("rclone")
    if found is None:
        raise SyncError("The rclone binary is not installed.", hint="Run `make setup`.")
    return found
