"""The server's operating system process: its command line, and whether it runs."""

import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

from pixel_pipeline.lake.embedded.errors import EmbeddedServerError
from pixel_pipeline.lake.embedded.ports import HOST


def command(*, data: Path, identities: Path, ports: dict[str, int]) -> list[str]:
    """The command that serves a data folder. Raises EmbeddedServerError without the SeaweedFS binary."""
    # SeaweedFS names its sockets in /tmp by port; their paths are limited to about 100 bytes.
    return [
        _binary(),
        "server",
        f"-dir={data}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        *(f"-{service}={port}" for service, port in ports.items()),
        "-s3",
        f"-s3.config={identities}",
        f"-s3.ip.bind={HOST}",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        "-filer.disableHttp",
        "-master.telemetry=false",
        # There is only one master, so an election need not wait the default 10 s.
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=1024",
        # Volumes are created on demand, several per bucket; the free-space limit guards the disk, not this count.
        "-volume.max=4096",
        "-volume.minFreeSpace=256MiB",
        "-volume.preStopSeconds=0",
    ]


def serves(pid: int, data: Path) -> bool:
    """True if the process still runs a server on this data folder; a recycled pid does not."""
    return f"-dir={data}" in command_line(pid)


def command_line(pid: int) -> list[str]:
    """The arguments of a running process; empty if there is none."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []
    listing = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.split()


def terminate(pid: int, *, timeout_seconds: float) -> None:
    """End a process: SIGTERM, then SIGKILL after the timeout."""
    for kill_signal in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, kill_signal)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if not exists(pid):
                return
            time.sleep(0.05)
    raise EmbeddedServerError(f"Process {pid} of the embedded S3 server does not stop.")


def exists(pid: int) -> bool:
    """True while a process holds files and ports. A zombie whose threads have all ended does not."""
    if not Path("/proc/self").exists():
        return bool(command_line(pid))
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (ProcessLookupError, FileNotFoundError):
        return False


def _binary() -> str:
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if beside_python.is_file() else shutil.which("weed")
    if found is None:
        raise EmbeddedServerError("The SeaweedFS binary `weed` is not installed.", hint="Run `make setup`.")
    return found
