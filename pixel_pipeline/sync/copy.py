"""`rclone copy`, never `sync`: files deleted from the source stay in raw, changed files replace their old version."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
import random
import time
from typing import Any

from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.rclone import Event, Rclone, SyncError, TransientSyncError, subject
from pixel_pipeline.sync.reasons import is_transient, reason_of

Report = Callable[[dict[str, Any]], None]
# Statistics of rclone, about once a second: bytes, totalBytes, transfers, totalTransfers, checks, speed, eta.


def no_report(stats: dict[str, Any]) -> None:
    """Ignore progress."""


@dataclass
class Outcome:
    """The result for each file, by its name in the source, with control characters as their pictures (␊).

    Attributes:
        copied, replaced: New and changed files that arrived; size in bytes, -1 if unknown.
        unchanged: Files with the same size and time in raw.
        kept: Files in raw that the source no longer has.
        failed: Files that did not arrive, with the reason.
        duplicates: Names shared by several files of the source; only one of each was copied.
        skipped: Pipes, devices, Google forms and maps, with the reason.
        sizes: Sizes of all files in raw.
        fault: Reason why the source or the destination could not be read at all.
    """

    copied: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    duplicates: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    fault: str | None = None

    @property
    def retryable(self) -> bool:
        """Whether a failure may be transient."""
        return any(map(is_transient, [*self.failed.values(), self.fault or ""]))

    def raise_fault(self, *, source: str, destination: str) -> None:
        """Raise SyncError if the copy failed as a whole, TransientSyncError if a retry may succeed."""
        if self.fault is None:
            return
        if self.fault == "not_found":
            raise SyncError(
                f"There is nothing to copy at {source}.", hint="Check the path or PIXEL_DRIVE_REMOTE."
            )
        message = f"{source} could not be copied to {destination}: {self.fault}."
        if is_transient(self.fault):
            raise TransientSyncError(
                message, hint="Files copied so far are complete; run it again to copy the rest."
            )
        raise SyncError(message, hint="Check the remote's permissions and credentials with `pixel doctor`.")


def copy(
    rclone: Rclone,
    source: str,
    destination: str,
    *,
    options: SyncOptions,
    report: Report,
    dry_run: bool = False,
) -> Outcome:
    """Copy, retrying transient failures. A file that fails does not stop the others.

    Args:
        report: Receives rclone's statistics about once a second.
        dry_run: Copy nothing; `copied` and `replaced` list the files that would be copied.
    """
    outcome = Outcome()
    pause = options.pause_seconds
    for attempt in range(1, options.attempts + 1):
        _attempt(rclone, source, destination, outcome=outcome, report=report, dry_run=dry_run)
        if not outcome.retryable or attempt == options.attempts:
            break
        # Jitter: other clients may have been rejected at the same moment.
        time.sleep(pause * random.uniform(0.75, 1.25))
        pause *= 2
    return outcome


class _RawUnreadableError(Exception):
    """rclone could not list raw and would copy everything again."""


@dataclass
class _Log:
    """Collects rclone's log events of one attempt."""

    outcome: Outcome
    report: Report
    arrived: dict[str, int] = field(default_factory=dict)
    last_error: str = ""

    def add(self, event: Event) -> None:
        name, message = subject(event), str(event.get("msg", ""))
        failed = event.get("level") == "error"
        if "stats" in event:
            self.report(event["stats"])
        elif message.startswith("error reading destination"):
            raise _RawUnreadableError(message)
        elif name is None:
            self.last_error = message if failed else self.last_error
        elif "Copied (" in message or event.get("skipped") == "copy":
            self.arrived[name] = int(event.get("size", -1))
        elif message.startswith("Duplicate ") and "in source" in message:
            self.outcome.duplicates.add(name)
        elif message.startswith("Can't transfer non file"):
            self.outcome.skipped[name] = "not_a_file"
        elif message.startswith("Skipping unexportable"):
            self.outcome.skipped[name.rstrip("/")] = "not_exportable"
        elif failed:
            self.outcome.failed[name] = reason_of(message)


def _attempt(
    rclone: Rclone, source: str, destination: str, *, outcome: Outcome, report: Report, dry_run: bool
) -> None:
    marks_file, sizes_file = rclone.scratch / "marks.txt", rclone.scratch / "sizes.txt"
    for path in (marks_file, sizes_file):
        path.unlink(missing_ok=True)
    outcome.failed.clear()
    outcome.fault = None
    log = _Log(outcome, report)
    flags = [
        # A changed time alone is no reason to write to raw.
        "--no-update-modtime",
        f"--combined={marks_file}",
        f"--dest-after={sizes_file}",
        "--format=sp",
        "--separator= ",
        *(["--dry-run"] if dry_run else []),
    ]
    try:
        code = rclone.run("copy", *flags, "--", source, destination, on_event=log.add)
    except _RawUnreadableError as error:
        outcome.fault = reason_of(str(error))
        return
    if code != 0 and not outcome.failed:
        outcome.fault = reason_of(log.last_error)
    marks = _marked(marks_file)
    for name, size in log.arrived.items():
        (outcome.replaced if name in marks["*"] else outcome.copied)[name] = size
    # Files copied in an earlier attempt are unchanged in the next.
    outcome.unchanged = [*marks["="].difference(outcome.copied, outcome.replaced)]
    # Deletions are unknown in a folder that could not be listed.
    unlisted = outcome.fault is not None or any(name.endswith("/") for name in outcome.failed)
    outcome.kept = [] if unlisted else [*marks["-"]]
    sizes = (line.split(" ", 1) for line in _lines(sizes_file))
    outcome.sizes = {name: int(size) for size, name in sizes if int(size) >= 0}


def _marked(path: Path) -> dict[str, set[str]]:
    """Names by their mark in rclone's `--combined` file: = equal, * differs, + missing in raw, - only in raw, ! failed."""
    marks: dict[str, set[str]] = {mark: set() for mark in "=*+-!"}
    for line in _lines(path):
        marks[line[0]].add(line[2:])
    return marks


def _lines(path: Path) -> list[str]:
    # Not str.splitlines, which also splits at other characters. Invalid UTF-8 is replaced, as in the log.
    return path.read_text("utf-8", errors="replace").split("\n")[:-1] if path.is_file() else []
