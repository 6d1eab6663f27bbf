"""`rclone check` after a copy: what lies in raw is what lies in the source."""

from dataclasses import dataclass, field
import re

from pixel_pipeline.sync.copy import Report
from pixel_pipeline.sync.options import Verify
from pixel_pipeline.sync.rclone import Event, Rclone, subject
from pixel_pipeline.sync.reasons import reason_of

_FLAGS: dict[Verify, tuple[str, ...]] = {"hash": (), "size": ("--size-only",), "download": ("--download",)}


@dataclass
class Verification:
    """What a comparison found.

    Attributes:
        method: How it was made; "off" where it was not.
        matching: Files that are the same on both sides.
        without_hash: Of these, how many have no hash in common and were compared by size alone.
        problems: Names of the others, and why.
        fault: Why the comparison itself failed.
    """

    method: Verify = "off"
    matching: int = 0
    without_hash: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    fault: str | None = None


def verify(rclone: Rclone, source: str, destination: str, *, method: Verify, report: Report) -> Verification:
    """Compare every file of the source with its copy; what lies in raw alone does not matter.

    `hash` and `size` cost two listings where both sides list their hashes, as Drive and S3 do. `download` reads all bytes of
    both.
    """
    found = Verification(method)
    if method == "off":
        return found
    last_error = ""

    def take(event: Event) -> None:
        nonlocal last_error
        name, message = subject(event), str(event.get("msg", ""))
        if "stats" in event:
            report(event["stats"])
        elif match := re.match(r"(\d+) matching files", message):
            found.matching = int(match[1])
        elif match := re.match(r"(\d+) hashes could not be checked", message):
            found.without_hash = int(match[1])
        elif event.get("level") == "error":
            if name is None:
                last_error = message
            else:
                found.problems[name] = _problem(message)

    code = rclone.run("check", "--one-way", *_FLAGS[method], "--", source, destination, on_event=take)
    if code != 0 and not found.problems:
        found.fault = reason_of(last_error)
    return found


def _problem(message: str) -> str:
    if message.startswith("file not in "):
        return "missing_in_raw"
    if "sizes differ" in message:
        return "size_differs"
    if re.search(r"(md5|sha\d*|hash|contents?) differ", message, re.IGNORECASE):
        return "content_differs"
    return reason_of(message)
