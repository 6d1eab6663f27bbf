"""rclone's statistics as lines for a log: few, and ever fewer."""

from collections.abc import Callable
import time
from typing import Any

FIRST_SECONDS = 10.0


class ProgressLines:
    """Takes statistics about once a second, and tells them about every ten seconds, later every tenth of the time passed.

    So a copy of ten hours is some seventy lines, and one of a few seconds is none.
    """

    def __init__(self, tell: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._began = clock()
        self._next = FIRST_SECONDS

    def __call__(self, stats: dict[str, Any]) -> None:
        passed = self._clock() - self._began
        if passed >= self._next:
            self._next = passed + max(FIRST_SECONDS, passed / 10)
            self._tell(progress_line(stats))


def progress_line(stats: dict[str, Any]) -> str:
    """`1,200 of 20,000 objects, 3.2 of 50.1 GB (6%), 85.2 MB/s, 0:09:12 left`; while nothing is copied, what was compared."""
    total = int(stats.get("totalTransfers") or 0)
    compared = f"{int(stats.get('checks') or 0):,} compared"
    if not total:
        return compared
    done, size = float(stats.get("bytes") or 0), float(stats.get("totalBytes") or 0)
    line = (
        f"{int(stats.get('transfers') or 0):,} of {total:,} objects, {done / 1e9:.1f} of {size / 1e9:.1f} GB"
    )
    if size:
        line += f" ({done / size:.0%})"
    line += f", {float(stats.get('speed') or 0) / 1e6:.1f} MB/s"
    if stats.get("eta") is not None:
        seconds = int(stats["eta"])
        line += f", {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"
    return f"{line}, {compared}"
