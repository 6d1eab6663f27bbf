"""Options of a sync."""

from dataclasses import dataclass
from typing import Literal, Self

from pixel_pipeline.settings import Settings

Verify = Literal["hash", "size", "download", "off"]


@dataclass(frozen=True)
class SyncOptions:
    """How files are copied and compared.

    Attributes:
        transfers: Files copied in parallel.
        bandwidth: rclone's `--bwlimit`: `20M` is 20 MiB/s; or a timetable.
        include: Filter patterns of files to copy; empty for all.
        exclude: Filter patterns of files to leave out; they win over `include`.
        verify: How source and copy are compared afterwards.
        attempts: Attempts at the whole copy while failures are transient; rclone retries single requests itself.
        pause_seconds: Pause before the second attempt, doubled before each further one.
    """

    transfers: int = 8
    bandwidth: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    verify: Verify = "hash"
    attempts: int = 3
    pause_seconds: float = 5.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take the options from the settings PIXEL_SYNC_*."""
        return cls(
            transfers=settings.sync_transfers,
            bandwidth=settings.sync_bandwidth,
            include=settings.sync_include,
            exclude=settings.sync_exclude,
            verify=settings.sync_verify,
        )

    def filter_rules(self) -> str:
        """Return the contents of a file for rclone's `--filter-from`."""
        rules = [f"- {pattern}" for pattern in self.exclude] + [f"+ {pattern}" for pattern in self.include]
        return "\n".join([*rules, "- **"] if self.include else rules)
