"""The embedded server: started once, kept, restarted on its data, and invisible to others."""

from collections.abc import Iterator
import contextlib
import json
import os
from pathlib import Path
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.embedded import DiskFullError, EmbeddedServer, EmbeddedServerError, process
from pixel_pipeline.lake.embedded.ports import HOST
from pixel_pipeline.lake.embedded.records import write_private
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings, get_settings

RACERS = 6
STARTER = """
import sys
from pathlib import Path
from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings

lake = Lake.open(get_settings())
lake.data.put(f"racers/{sys.argv[1]}", b"x", create_only=True)
print(embedded.ensure_running(get_settings().home).pid, flush=True)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PIXEL_HOME for one test; its server is stopped afterwards."""
    path = tmp_path / "home"
    monkeypatch.setenv("PIXEL_HOME", str(path))
    yield path
    embedded.stop(path, timeout_seconds=0.2)
    assert servers_on(path) == []


@pytest.fixture
def running(session_home: Path) -> EmbeddedServer:
    """The session's server, for tests that do not change it."""
    return embedded.ensure_running(session_home)


def servers_on(home: Path) -> list[int]:
    """Processes that serve the data folder of a home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if f"-dir={home}/s3/data".encode() in words:
                found.append(int(entry.name))
    return found


def killed(pid: int) -> None:
    """kill -9 and wait for the end."""
    os.kill(pid, signal.SIGKILL)
    while process.exists(pid):
        time.sleep(0.02)


def start(name: str, *, stay: bool = False) -> subprocess.Popen[str]:
    """A process, in its own group, that opens the lake and then ends or stays."""
    code = f"{STARTER}\nimport time; time.sleep(60)" if stay else STARTER
    return subprocess.Popen(
        [sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_racing_processes_start_one_server_which_survives_their_interruption(home: Path) -> None:
    racers = [start(str(number), stay=True) for number in range(RACERS)]
    pids = {int(racer.stdout.readline()) for racer in racers if racer.stdout is not None}
    assert [*pids] == servers_on(home)
    for racer in racers:
        # A terminal sends Ctrl-C to the whole process group, including the process that started the server.
        os.killpg(racer.pid, signal.SIGINT)
        racer.communicate()
        assert racer.returncode != 0
    assert [*pids] == servers_on(home)
    assert len([*Lake.open(get_settings()).data.list("racers")]) == RACERS


def test_life_of_a_server(home: Path) -> None:
    """Many claims in one test, because starting a server is slow."""
    assert embedded.status(home) is None
    assert embedded.stop(home) is False
    first = embedded.ensure_running(home)
    credentials = (home / "s3/credentials.json").read_text()
    Lake.open(get_settings()).data.put("kept", b"before")
    assert embedded.status(home) == first
    assert embedded.ensure_running(home) == first

    # Restarted: same data, same ports, same credentials.
    assert embedded.stop(home, timeout_seconds=0.2) is True
    assert embedded.status(home) is None
    assert embedded.stop(home) is False
    second = embedded.ensure_running(home)
    assert second.pid != first.pid
    assert second.ports == first.ports
    assert (home / "s3/credentials.json").read_text() == credentials
    assert Lake.open(get_settings()).data.get("kept") == b"before"

    # Killed: the data are still there. Another process took one of its ports, so it moves.
    Lake.open(get_settings()).data.put("kept", b"after")
    killed(second.pid)
    assert embedded.status(home) is None
    with socket.create_server((HOST, second.ports["s3.port"])):
        third = embedded.ensure_running(home)
        assert third.ports["s3.port"] != second.ports["s3.port"]
        assert Lake.open(get_settings()).data.get("kept") == b"after"
        assert servers_on(home) == [third.pid]


def test_a_starter_killed_half_way_leaves_no_second_server(home: Path) -> None:
    """Two servers on one data folder would destroy it."""
    starter = start("0")
    record = home / "s3/server.json"
    while not record.exists():
        time.sleep(0.01)
    starter.kill()
    starter.communicate()
    server = embedded.ensure_running(home)
    assert servers_on(home) == [server.pid]
    Lake.open(get_settings()).data.put("key", b"x")


def test_a_recycled_pid_is_not_mistaken_for_the_server(
    running: EmbeddedServer, session_home: Path, home: Path
) -> None:
    """Even if the recorded port answers like a server."""
    root = home / "s3"
    root.mkdir(parents=True)
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (root / "credentials.json").write_text((session_home / "s3/credentials.json").read_text())
    (root / "server.json").write_text(
        json.dumps({"pid": bystander.pid, "ports": running.ports, "ready": True})
    )
    assert embedded.status(home) is None
    assert embedded.stop(home) is False
    assert bystander.poll() is None
    bystander.communicate(b"\n")
    # Neither is a server of another home.
    (root / "server.json").write_text(json.dumps({"pid": running.pid, "ports": running.ports, "ready": True}))
    assert embedded.status(home) is None
    assert embedded.stop(home) is False
    assert embedded.status(session_home) == running


def test_a_server_that_is_still_starting_is_not_returned(running: EmbeddedServer, session_home: Path) -> None:
    """Its health page answers seconds before it can store anything."""
    record = session_home / "s3/server.json"
    content = json.loads(record.read_text())
    assert content["ready"] is True
    try:
        record.write_text(json.dumps({**content, "ready": False}))
        assert embedded.status(session_home) is None
    finally:
        write_private(record, content)
    assert embedded.status(session_home) == running


@pytest.mark.parametrize("content", ["", "null", "{}", '{"pid": 1}', "[1]", '{"pid": 1, "ports"'])
def test_a_damaged_record_is_named(home: Path, content: str) -> None:
    (home / "s3").mkdir(parents=True)
    (home / "s3/server.json").write_text(content)
    with pytest.raises(EmbeddedServerError, match=r"server\.json is damaged"):
        embedded.status(home)
    with pytest.raises(EmbeddedServerError, match=r"server\.json is damaged"):
        embedded.ensure_running(home)
    (home / "s3/server.json").unlink()


def test_too_little_disk_is_reported_before_the_server_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXEL_MIN_FREE_BYTES", str(2**60))
    with pytest.raises(DiskFullError, match="PIXEL_HOME"):
        Lake.open(get_settings())
    assert servers_on(home) == []


def test_only_the_owner_can_read_files_with_secrets(running: EmbeddedServer, session_home: Path) -> None:
    for name in ("credentials.json", "identities.json", "server.json"):
        assert stat.S_IMODE((session_home / "s3" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((session_home / "s3/data").stat().st_mode) == 0o700
    assert running.secret_key.get_secret_value() in (session_home / "s3/credentials.json").read_text()


def test_no_secret_is_readable_by_others(running: EmbeddedServer, session_home: Path) -> None:
    shown = [
        Path(f"/proc/{running.pid}/cmdline").read_text(),
        Path(f"/proc/{running.pid}/environ").read_text(),
        (session_home / "s3/weed.log").read_text(),
        repr(running),
        str(embedded.describe(running)),
    ]
    for text in shown:
        assert running.secret_key.get_secret_value() not in text


def test_nothing_listens_beyond_loopback(running: EmbeddedServer) -> None:
    inodes = set()
    for descriptor in Path(f"/proc/{running.pid}/fd").iterdir():
        # A descriptor closed since the listing was not a listener.
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    listening = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{running.pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            # 0A: LISTEN. An unconnected UDP socket receives from any address.
            waits = fields[3] == "0A" if name.startswith("tcp") else fields[2].endswith(":0000")
            if fields[9] in inodes and waits:
                address, port = fields[1].split(":")
                listening.append((name, address, int(port, 16)))
    assert {(name, address) for name, address, _ in listening} == {("tcp", "0100007F")}
    assert {port for _, _, port in listening} <= set(running.ports.values())
    assert running.ports["s3.port"] in {port for _, _, port in listening}


def test_telemetry_is_off(running: EmbeddedServer) -> None:
    assert "-master.telemetry=false" in process.command_line(running.pid)


def test_no_server_is_started_if_a_lake_is_configured(
    running: EmbeddedServer, settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXEL_S3_ENDPOINT", running.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", running.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", running.secret_key.get_secret_value())
    monkeypatch.setenv("PIXEL_BUCKET", "pixel-embedded")
    monkeypatch.setenv("PIXEL_CHECKPOINT_BUCKET", "pixel-embedded")
    lake = Lake.open(get_settings())
    lake.check()
    assert lake.data.get("probe") == b"ready"
    assert not home.exists()
