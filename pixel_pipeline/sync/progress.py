"""rclone's statistics as log lines at growing intervals."""

from collections.abc import Callable
import time
from typing import Any

MIN_INTERVAL_SECONDS = 10.0


class ProgressLines:
    """Logs rclone's statistics every ten seconds at first, later at intervals of a tenth of the elapsed time.

    A copy of ten hours logs about seventy lines, one of a few seconds none.
    """

    def __init__(self, log: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._started = clock()
        self._next = MIN_INTERVAL_SECONDS

    def __call__(self, stats: dict[str, Any]) -> None:
        elapsed = self._clock() - self._started
        if elapsed >= self._next:
            self._next = elapsed + max(MIN_INTERVAL_SECONDS, elapsed / 10)
            self._log(progress_line(stats))


def progress_line(stats: dict[str, Any]) -> str:
    """Format as `1,200 of 20,000 objects, 3.2 of 50.1 GB (6%), 85.2 MB/s, 0:09:12 left, 7 compared`."""
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
