"""`rclone check` after a copy: compare raw with the source."""

from dataclasses import dataclass, field
import re

from pixel_pipeline.sync.copy import Report
from pixel_pipeline.sync.options import Verify
from pixel_pipeline.sync.rclone import Event, Rclone, subject
from pixel_pipeline.sync.reasons import reason_of

_FLAGS: dict[Verify, tuple[str, ...]] = {"hash": (), "size": ("--size-only",), "download": ("--download",)}


@dataclass
class Verification:
    """Result of a comparison.

    Attributes:
        method: Method of the comparison; "off" if skipped.
        without_hash: Files without a common hash, compared by size alone.
        problems: Names of files that differ, with the reason.
        fault: Reason why the comparison itself failed.
    """

    method: Verify = "off"
    without_hash: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    fault: str | None = None


def verify(rclone: Rclone, source: str, destination: str, *, method: Verify, report: Report) -> Verification:
    """Compare every file of the source with its copy; files only in raw are ignored.

    `hash` and `size` cost two listings if both sides list hashes, as Drive and S3 do. `download` reads all bytes of both.
    """
    result = Verification(method)
    if method == "off":
        return result
    last_error = ""

    def on_event(event: Event) -> None:
        nonlocal last_error
        name, message = subject(event), str(event.get("msg", ""))
        if "stats" in event:
            report(event["stats"])
        elif match := re.match(r"(\d+) hashes could not be checked", message):
            result.without_hash = int(match[1])
        elif event.get("level") == "error":
            if name is None:
                last_error = message
            else:
                result.problems[name] = _problem(message)

    code = rclone.run("check", "--one-way", *_FLAGS[method], "--", source, destination, on_event=on_event)
    if code != 0 and not result.problems:
        result.fault = reason_of(last_error)
    return result


def _problem(message: str) -> str:
    if message.startswith("file not in "):
        return "missing_in_raw"
    if "sizes differ" in message:
        return "size_differs"
    if re.search(r"(md5|sha\d*|hash|contents?) differ", message, re.IGNORECASE):
        return "content_differs"
    return reason_of(message)
