"""The rclone process: environment, command line, termination."""

from collections.abc import Iterator
import os
from pathlib import Path
import subprocess
from typing import Any

import pytest

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings
from pixel_pipeline.sync.drive import sync_drive
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.rclone import SyncError
from pixel_pipeline_tests.sync.conftest import FILES

SECRET = "planted-secret-of-a-service-account"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list["Recorded"]]:
    """Every rclone process, with its command line as the system shows it and its output."""
    started: list[Recorded] = []

    class Noted(Recorded):
        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__(command, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    yield started
    assert all(process.poll() is not None for process in started)


class Recorded(subprocess.Popen[bytes]):
    flags: tuple[str, ...] = ()

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__([*command[:2], *self.flags, *command[2:]], **options)
        self.command_line = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        self.output: list[bytes] = []
        stderr = self.stderr
        assert stderr is not None
        self.stderr = (self.output.append(line) or line for line in stderr)  # type: ignore[assignment,func-returns-value]


def test_no_secret_leaves_the_environment(
    s3_drive: str, lake: Lake, processes: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCLONE_CONFIG_GDRIVE_SERVICE_ACCOUNT_CREDENTIALS", SECRET)
    # Each would log headers and bodies, or change the copy.
    for name, value in {
        "RCLONE_VERBOSE": "2",
        "RCLONE_LOG_LEVEL": "DEBUG",
        "RCLONE_DUMP": "headers,bodies,auth",
        "RCLONE_DRY_RUN": "true",
    }.items():
        monkeypatch.setenv(name, value)
    statistics: list[dict[str, Any]] = []
    report = sync_drive(s3_drive, lake=lake, options=SyncOptions(), report=statistics.append)
    assert report.complete
    assert len(processes) == 2
    texts = [b"".join((process.command_line, *process.output)) for process in processes]
    texts += [repr((report, statistics)).encode(), lake.data.get(keys.LAST_SYNC)]
    for secret in (SECRET, lake.target.secret_key.get_secret_value(), lake.target.access_key):
        assert not any(secret.encode() in text for text in texts)


def test_an_invalid_key_is_not_repeated_in_the_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCLONE_CONFIG_GDRIVE_TYPE", "drive")
    monkeypatch.setenv("RCLONE_CONFIG_GDRIVE_SERVICE_ACCOUNT_CREDENTIALS", f'{{"private_key": "{SECRET}"}}')
    with pytest.raises(SyncError, match="PIXEL_DRIVE_REMOTE") as caught:
        sync_drive("gdrive:", lake=lake, options=SyncOptions())
    assert SECRET not in str(caught.value)
    assert not caught.value.transient


def test_a_remote_may_be_configured_in_the_env_file(
    drive: Path, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"RCLONE_CONFIG_TEAM_TYPE=alias\nRCLONE_CONFIG_TEAM_REMOTE={drive}\n")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    assert sync_drive("team:", lake=lake, options=SyncOptions()).counts() == {"copied": len(FILES)}


def test_a_user_remote_of_the_same_name_is_ignored(
    drive: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCLONE_CONFIG_PIXELLAKE_STORAGE_CLASS", "no-such-class")
    monkeypatch.setenv("RCLONE_CONFIG_PIXELLAKE_TYPE", "memory")
    assert sync_drive(str(drive), lake=lake, options=SyncOptions()).complete


@pytest.mark.parametrize("flags", [(), ("--s3-upload-cutoff=5M",)], ids=["one-request", "in-parts"])
def test_an_interrupted_copy_leaves_no_partial_file_and_can_be_resumed(
    lake: Lake,
    tmp_path: Path,
    processes: list[Recorded],
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
) -> None:
    monkeypatch.setattr(Recorded, "flags", flags)
    big, content = tmp_path / "big.bin", os.urandom(1 << 20) * 12
    (tmp_path / "small.txt").write_bytes(b"small")
    big.write_bytes(content)

    def interrupt(stats: dict[str, Any]) -> None:
        if any(file["name"] == "big.bin" and file.get("bytes") for file in stats.get("transferring", [])):
            raise KeyboardInterrupt

    slow = SyncOptions(bandwidth="4M")
    with pytest.raises(KeyboardInterrupt):
        sync_drive(str(tmp_path), lake=lake, options=slow, report=interrupt)
    (process,) = processes
    assert process.poll() is not None
    assert [item.key for item in lake.data.list("")] == [f"{keys.RAW}/small.txt"]

    report = sync_drive(str(tmp_path), lake=lake, options=SyncOptions())
    assert report.counts() == {"copied": 1, "unchanged": 1}
    assert report.complete
    assert lake.data.get(f"{keys.RAW}/big.bin") == content
