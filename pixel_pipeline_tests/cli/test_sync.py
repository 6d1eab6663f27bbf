"""`pixel sync` as it is typed."""

from collections.abc import Iterator
import json
import os
from pathlib import Path
import signal

import pytest

from pixel_pipeline.lake import embedded, keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings
from pixel_pipeline_tests.activated import shell, start


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sync-command")
    embedded.ensure_running(folder)
    yield folder
    embedded.stop(folder)


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    folder = tmp_path / "drive"
    folder.mkdir()
    for name in ("a.json", "b.json", "c.txt"):
        (folder / name).write_bytes(b"{}")
    return folder


def raw(home: Path) -> list[str]:
    return [
        item.key.removeprefix(f"{keys.RAW}/") for item in Lake.open(Settings(home=home)).data.list(keys.RAW)
    ]


def test_dry_run_then_sync(home: Path, drive: Path) -> None:
    settings = {"PIXEL_DRIVE_REMOTE": str(drive), "PIXEL_SYNC_EXCLUDE": "*.txt; *.tmp"}
    planned = shell("pixel sync --dry-run", home=home, **settings)
    assert planned.code == 0, planned.text
    assert planned.stdout == ""
    assert "2 new and 0 changed files would be copied (4 bytes), 0 unchanged" in planned.stderr
    assert "new  b.json" in planned.stderr
    assert raw(home) == []

    document = json.loads(shell("pixel sync --dry-run --json", home=home, **settings).stdout)
    assert document["dry_run"]
    assert document["counts"] == {"copied": 2}
    assert [(file["path"], file["size"]) for file in document["files"]] == [("a.json", 2), ("b.json", 2)]

    done = shell("pixel sync", home=home, **settings)
    assert done.code == 0, done.text
    assert "2 new and 0 changed files copied" in done.stderr
    assert "all 2 files are in raw; sizes and hashes agree" in done.stderr
    assert raw(home) == ["a.json", "b.json"]

    (drive / "a.json").unlink()
    result = shell("pixel sync --json", home=home, **settings)
    assert result.code == 0, result.text
    document = json.loads(result.stdout)
    assert document["complete"]
    assert document["counts"] == {"kept": 1, "unchanged": 1}
    assert document["files"] == [{"path": "a.json", "action": "kept", "size": 2, "reason": None}]


def test_a_file_that_does_not_arrive_gives_exit_code_1(home: Path, drive: Path) -> None:
    deep = drive.joinpath(*["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "deep.json").write_bytes(b"{}")
    result = shell("pixel sync", home=home, PIXEL_DRIVE_REMOTE=str(drive))
    assert result.code == 1
    assert "1 did not arrive: name_too_long 1" in result.stderr
    assert "c.txt" in raw(home)


@pytest.mark.parametrize(
    ("variable", "value"), [("PIXEL_DRIVE_REMOTE", "nowhere:"), ("PIXEL_SYNC_VERIFY", "perhaps")]
)
def test_a_wrong_setting_is_named(home: Path, variable: str, value: str) -> None:
    result = shell("pixel sync --json", home=home, **{variable: value})
    assert result.code == 2
    assert result.stdout == ""
    assert variable in result.stderr


def test_ctrl_c_leaves_no_partial_object(home: Path, drive: Path) -> None:
    (drive / "big.bin").write_bytes(os.urandom(30_000_000))
    (drive / "small.bin").write_bytes(b"{}")
    process = start("pixel sync", home=home, PIXEL_DRIVE_REMOTE=str(drive), PIXEL_SYNC_BANDWIDTH="1M")
    # Small files are copied first, so the big one is in transit now.
    while "small.bin" not in raw(home) and process.poll() is None:
        pass
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert "big.bin" not in raw(home)
