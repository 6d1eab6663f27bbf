"""How a copy is made."""

from dataclasses import dataclass
from typing import Literal, Self

from pixel_pipeline.settings import Settings

Verify = Literal["hash", "size", "download", "off"]


@dataclass(frozen=True)
class SyncOptions:
    """How files are copied and compared.

    Attributes:
        transfers: Files copied at the same time.
        bandwidth: rclone's `--bwlimit`: `20M` is 20 MiB/s; or a timetable.
        include: Copy only what matches one of these filter patterns; all where there is none.
        exclude: Never copy what matches one of these; they win over `include`.
        verify: How source and copy are compared afterwards.
        attempts: How often the whole is tried while what failed may pass. Single requests are repeated besides.
        pause_seconds: Before the second attempt; doubled before each further one.
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
        """Those of the settings PIXEL_SYNC_*."""
        return cls(
            transfers=settings.sync_transfers,
            bandwidth=settings.sync_bandwidth,
            include=settings.sync_include,
            exclude=settings.sync_exclude,
            verify=settings.sync_verify,
        )

    def filter_rules(self) -> str:
        """Lines of a file for rclone's `--filter-from`."""
        rules = [f"- {pattern}" for pattern in self.exclude] + [f"+ {pattern}" for pattern in self.include]
        return "\n".join([*rules, "- **"] if self.include else rules)
