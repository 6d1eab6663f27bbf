"""Ingest a folder: all files arrive, or an error names the missing ones."""

from collections.abc import Callable
import os
from pathlib import Path
import socket
import subprocess
from typing import Any

import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import KeyNameError
from pixel_pipeline.settings import get_settings
from pixel_pipeline.sync import rclone
from pixel_pipeline.sync.ingest import CopyReport, copy_to_lake
from pixel_pipeline.sync.options import SyncOptions
from pixel_pipeline.sync.rclone import SyncError
from pixel_pipeline_tests.faults import Fault, FaultProxy
from pixel_pipeline_tests.sync.conftest import FILES

PREFIX = "gdrive/raw"


def copy(source: str | Path, lake: Lake) -> CopyReport:
    return copy_to_lake(source, lake=lake, prefix=PREFIX)


def in_raw(lake: Lake) -> dict[str, bytes]:
    return {item.key.removeprefix(f"{PREFIX}/"): lake.data.get(item.key) for item in lake.data.list(PREFIX)}


def test_copies_of_a_changing_folder(drive: Path, lake: Lake) -> None:
    first = copy(drive, lake)
    assert in_raw(lake) == FILES
    assert first.copied == len(FILES)
    assert first.copied_bytes == sum(map(len, FILES.values()))
    assert first.destination == f"s3://{lake.data.name}/{PREFIX}"
    before = [*lake.data.list(PREFIX)]

    # Nothing has changed.
    second = copy(drive, lake)
    assert (second.copied, second.copied_bytes, second.checked) == (0, 0, len(FILES))
    assert [*lake.data.list(PREFIX)] == before

    # One changed, one deleted, one new.
    (drive / "empty.json").write_bytes(b"no longer")
    (drive / "deep/er/🙂 smile.txt").unlink()
    (drive / "new.json").write_bytes(b"{}")
    third = copy(drive, lake)
    assert third.copied == 2
    assert in_raw(lake) == FILES | {"empty.json": b"no longer", "new.json": b"{}"}


def test_a_backslash_in_a_name_is_no_separator(tmp_path: Path, lake: Lake) -> None:
    for name in ("back\\slash.txt", ".\\", "..\\..\\up.txt"):
        (tmp_path / name).write_text(name)
    copy(tmp_path, lake)
    assert sorted(in_raw(lake)) == ["..＼..＼up.txt", ".＼", "back＼slash.txt"]


@pytest.mark.parametrize("prefix", ["acquired/a\\b", "acquired/.\\", "acquired/../x", "acquired//x"])
def test_a_prefix_that_is_no_valid_key_is_refused(drive: Path, lake: Lake, prefix: str) -> None:
    with pytest.raises(KeyNameError, match="cannot be an object's key"):
        copy_to_lake(drive, lake=lake, prefix=prefix)
    assert [*lake.data.list("")] == []


def test_a_file_of_the_same_size_with_another_time_is_copied_again(drive: Path, lake: Lake) -> None:
    copy(drive, lake)
    path = drive / "Grief and Loss/sessions.jsonl"
    path.write_bytes(b'{"a": 2}\n')
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert copy(drive, lake).copied == 1
    assert in_raw(lake)["Grief and Loss/sessions.jsonl"] == b'{"a": 2}\n'


def test_a_single_file(drive: Path, lake: Lake) -> None:
    copy(drive / "empty.json", lake)
    assert in_raw(lake) == {"empty.json": b""}


def test_links_are_not_followed(drive: Path, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/private.txt").write_bytes(b"private")
    (drive / "link.txt").symlink_to(tmp_path / "outside/private.txt")
    (drive / "linked").symlink_to(tmp_path / "outside")
    (drive / "dangling").symlink_to(tmp_path / "nothing")
    copy(drive, lake)
    assert in_raw(lake) == FILES


def test_a_source_that_looks_like_an_option_is_read_as_a_folder(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--dry-run").mkdir()
    (tmp_path / "--dry-run/a.txt").write_bytes(b"x")
    copy("--dry-run", lake)
    assert in_raw(lake) == {"a.txt": b"x"}


def test_an_error_names_a_missing_source(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(SyncError, match=r"nowhere(?s:.*)PIXEL_DRIVE_REMOTE"):
        copy(tmp_path / "nowhere", lake)
    with pytest.raises(SyncError, match=r"no remote(?s:.*)RCLONE_CONFIG"):
        copy("no_such_remote:", lake)


def test_an_error_names_a_file_that_cannot_be_stored_and_the_others_arrive(drive: Path, lake: Lake) -> None:
    (drive / ("x" * 200)).mkdir()
    # 200 + 250 + 250 + 250 + 250 bytes; S3 limits keys to 1024.
    deep = drive / ("x" * 200) / ("y" * 250) / ("y" * 250) / ("y" * 250) / ("too_long" + "z" * 200)
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"x")
    with pytest.raises(SyncError, match=r"too_long(?s:.*)run it again"):
        copy(drive, lake)
    assert in_raw(lake) == FILES


def test_secrets_are_in_no_command_line_and_no_error(
    drive: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **options: Any) -> None:
            commands.append([*command])
            super().__init__(command, **options)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    copy(drive, lake)
    (command,) = commands
    for secret in (lake.target.secret_key.get_secret_value(), lake.target.access_key):
        assert not any(secret in word for word in command)
        assert secret not in repr(command)


@pytest.mark.parametrize("fault", ["unreachable", "secret", "bucket"])
def test_an_inaccessible_lake_is_an_error_that_names_the_setting(
    drive: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    endpoint, secret, bucket = lake.target.endpoint, lake.target.secret_key.get_secret_value(), lake.data.name
    assert endpoint is not None
    if fault == "unreachable":
        with socket.create_server(("127.0.0.1", 0)) as gone:
            endpoint = f"http://127.0.0.1:{gone.getsockname()[1]}"
    elif fault == "secret":
        secret = "plantedWrongSecret0123456789abcdef"
    else:
        bucket = "no-such-bucket"
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", lake.target.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("PIXEL_BUCKET", bucket)
    with pytest.raises(PixelError) as caught:
        copy(drive, Lake.open(get_settings()))
    message = str(caught.value)
    assert secret not in message
    assert lake.target.access_key not in message
    assert {"unreachable": "PIXEL_S3_ENDPOINT", "secret": "AWS_ACCESS_KEY_ID", "bucket": "PIXEL_BUCKET"}[
        fault
    ] in message
    assert in_raw(lake) == {}


def test_a_second_attempt_counts_each_file_once(
    drive: Path,
    lake: Lake,
    proxy: FaultProxy,
    lake_behind: Callable[[FaultProxy], Lake],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rclone, "REQUEST_TRIES", 1)
    proxied = lake_behind(proxy)
    proxy.faults = [Fault("status", status=503, code="SlowDown", on=r"^PUT .*deep/er")]
    report = copy_to_lake(drive, lake=proxied, prefix=PREFIX, options=SyncOptions(pause_seconds=0))
    assert (report.copied, report.checked) == (len(FILES), len(FILES))
    assert in_raw(lake) == FILES


def test_statistics_are_reported(drive: Path, lake: Lake) -> None:
    seen: list[dict[str, Any]] = []
    copy_to_lake(drive, lake=lake, prefix=PREFIX, report=seen.append)
    assert seen
    assert seen[-1]["transfers"] == len(FILES)
    assert seen[-1]["bytes"] == seen[-1]["totalBytes"]
