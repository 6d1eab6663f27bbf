"""A real S3 server on loopback (SeaweedFS), started by whoever needs it first and kept for the next command.

State lies under `<home>/s3`: `data/`, `weed.log`, `server.json` (pid, ports), `credentials.json` and `identities.json`
(both mode 0600). A file lock serialises starting and stopping, so racing processes start exactly one server.
"""

from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
import fcntl
import http.client
import json
import os
from pathlib import Path
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import obstore
from obstore import exceptions as s3_errors
from obstore.store import S3Store
from pydantic import SecretStr

from pixel_pipeline.errors import PixelError

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 60.0
PROBE_BUCKET = "pixel-embedded"
# Below the ephemeral range of Linux (32768+) and of macOS (49152+): no outgoing connection takes a port between our
# probe and the server's bind.
PORT_RANGE = range(20000, 32000)
SERVICES = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)


class EmbeddedServerError(PixelError):
    """The embedded S3 server cannot be started or stopped."""


class DiskFullError(PixelError):
    """Too little free disk for the lake."""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server."""

    pid: int
    ports: dict[str, int]
    access_key: str
    secret_key: SecretStr
    data_dir: Path

    def __repr__(self) -> str:
        return f"EmbeddedServer(pid={self.pid}, endpoint={self.endpoint!r})"

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.ports['s3.port']}"


@dataclass(frozen=True)
class _Record:
    """`server.json`: the server started last. `ready` once it has been seen to store and return an object."""

    pid: int
    ports: dict[str, int]
    ready: bool


def ensure_running(home: Path, *, min_free_bytes: int = 0) -> EmbeddedServer:
    """The server of this home, started now if need be. Safe to call from racing processes.

    Raises:
        DiskFullError: less than `min_free_bytes` free where the data lie.
        EmbeddedServerError: it does not come up; the message quotes where its log is.
    """
    root = home / "s3"
    running = status(home)
    if running is not None:
        return running
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _lock(root):
        running = status(home)
        if running is not None:
            return running
        # Two servers must never share the data: one whose starter was killed, or that no longer answers, goes first.
        _stop_recorded(root, timeout_seconds=2.0)
        free = shutil.disk_usage(root).free
        if free < min_free_bytes:
            raise DiskFullError(
                f"{home} has {free / 1024**2:,.0f} MiB of free disk; the embedded S3 server needs {min_free_bytes / 1024**2:,.0f} MiB.",
                hint="Free some space, or point PIXEL_HOME at a larger disk (limit: PIXEL_MIN_FREE_BYTES).",
            )
        return _start(root)


def status(home: Path) -> EmbeddedServer | None:
    """The running server of this home, or None. One that is still starting does not count."""
    root = home / "s3"
    record = _record(root)
    if record is None or not record.ready:
        return None
    try:
        server = _server(root, pid=record.pid, ports=record.ports)
    except FileNotFoundError:
        return None
    return server if _is_ours(server.pid, root) and _healthy(server.ports["s3.port"]) else None


def stop(home: Path, *, timeout_seconds: float = 2.0) -> bool:
    """Stop the server of this home; False when none was running.

    The server's own shutdown waits 15 s for an internal stream that never ends. Its files are append-only and survive a
    kill, so after `timeout_seconds` it is killed.
    """
    root = home / "s3"
    if not root.is_dir():
        return False
    with _lock(root):
        # The ports stay on record: the master's state refers to them, and a restart asks for the same.
        return _stop_recorded(root, timeout_seconds=timeout_seconds)


def ensure_bucket(home: Path, name: str) -> None:
    """Create a bucket on the embedded server if it is not known to exist."""
    if not _bucket_mark(home / "s3", name).exists():
        _create_bucket(home / "s3", name=name, server=ensure_running(home))


def _bucket_mark(root: Path, name: str) -> Path:
    return root / "buckets" / name


def _create_bucket(root: Path, *, name: str, server: EmbeddedServer) -> None:
    # boto3 is the control plane; its import costs more than all else here, so a mark spares it from the second time on.
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key.get_secret_value(),
        region_name="us-east-1",
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # A server that has just come up answers 500 until its volumes have registered.
            retries={"mode": "standard", "max_attempts": 10},
        ),
    )
    with contextlib.suppress(
        client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
    ):
        client.create_bucket(Bucket=name)
    mark = _bucket_mark(root, name)
    mark.parent.mkdir(exist_ok=True)
    mark.touch()


def _start(root: Path) -> EmbeddedServer:
    binary = _binary()
    credentials = _credentials(root)
    identities = root / "identities.json"
    _write_private(
        identities,
        {
            "identities": [
                {
                    "name": "pixel",
                    "credentials": [
                        {"accessKey": credentials["access_key"], "secretKey": credentials["secret_key"]}
                    ],
                    "actions": ["Admin", "Read", "List", "Tagging", "Write"],
                }
            ]
        },
    )
    data = root / "data"
    data.mkdir(exist_ok=True, mode=0o700)
    log = root / "weed.log"
    for attempt in range(3):
        ports = _choose_ports(root, previous=attempt == 0)
        with log.open("ab" if attempt else "wb") as output:
            process = subprocess.Popen(
                [binary, *_arguments(data=data, identities=identities, ports=ports)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=root,
                # A session of its own: Ctrl-C in the terminal that happened to start it must not stop it.
                start_new_session=True,
            )
        record = _Record(pid=process.pid, ports=ports, ready=False)
        _write_private(root / "server.json", asdict(record))
        server = _server(root, pid=process.pid, ports=ports)
        if _wait_until_serving(process, root=root, server=server):
            _write_private(root / "server.json", asdict(replace(record, ready=True)))
            return server
        if process.poll() is None:
            _terminate(process.pid, timeout_seconds=5)
            process.wait()
    raise EmbeddedServerError("The embedded S3 server did not start.", hint=f"See the end of {log}.")


def _arguments(*, data: Path, identities: Path, ports: dict[str, int]) -> list[str]:
    # A socket path has a limit of about 100 bytes, and /tmp is shared with other users: sockets are named by port there.
    return [
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
        # There is one master: nobody to wait the default 10 s for.
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=1024",
        # Volumes are created on demand, several for each bucket; the free-space limit guards the disk, not this count.
        "-volume.max=4096",
        "-volume.minFreeSpace=256MiB",
        "-volume.preStopSeconds=0",
    ]


def _binary() -> str:
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if beside_python.is_file() else shutil.which("weed")
    if found is None:
        raise EmbeddedServerError("The SeaweedFS binary `weed` is not installed.", hint="Run `make setup`.")
    return found


def _credentials(root: Path) -> dict[str, str]:
    path = root / "credentials.json"
    if not path.exists():
        _write_private(
            path,
            {"access_key": f"PIXEL{secrets.token_hex(8).upper()}", "secret_key": secrets.token_urlsafe(32)},
        )
    credentials: dict[str, str] = _read_json(path)
    return credentials


def _server(root: Path, *, pid: int, ports: dict[str, int]) -> EmbeddedServer:
    credentials = _read_json(root / "credentials.json")
    return EmbeddedServer(
        pid=pid,
        ports=ports,
        access_key=credentials["access_key"],
        secret_key=SecretStr(credentials["secret_key"]),
        data_dir=root / "data",
    )


def _record(root: Path) -> _Record | None:
    try:
        return _Record(**_read_json(root / "server.json"))
    except FileNotFoundError:
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError:
        content = None
    expected = {"server.json": {"pid", "ports", "ready"}, "credentials.json": {"access_key", "secret_key"}}
    if not isinstance(content, dict) or set(content) != expected[path.name]:
        raise EmbeddedServerError(
            f"{path} is damaged.",
            hint="Stop any `weed` process that serves this folder, and delete the file.",
        )
    return content


def _write_private(path: Path, value: object) -> None:
    """Write JSON readable by its owner alone, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=2)
    partial.replace(path)


def _choose_ports(root: Path, *, previous: bool) -> dict[str, int]:
    record = _record(root) if previous else None
    if (
        record is not None
        and set(record.ports) == set(SERVICES)
        and all(_is_free(port) for port in record.ports.values())
    ):
        return record.ports
    chosen: list[int] = []
    candidates = random.sample(PORT_RANGE, k=200)
    while len(chosen) < len(SERVICES):
        if not candidates:
            raise EmbeddedServerError(
                f"No free loopback ports between {PORT_RANGE.start} and {PORT_RANGE.stop}."
            )
        port = candidates.pop()
        if _is_free(port):
            chosen.append(port)
    return dict(zip(SERVICES, chosen, strict=True))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _wait_until_serving(process: subprocess.Popen[bytes], *, root: Path, server: EmbeddedServer) -> bool:
    """True once an object can be written and read back; the health page answers seconds before that."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _healthy(server.ports["s3.port"]):
            break
        time.sleep(0.05)
    else:
        return False
    if not _bucket_mark(root, PROBE_BUCKET).exists():
        _create_bucket(root, name=PROBE_BUCKET, server=server)
    probe = S3Store(
        bucket=PROBE_BUCKET,
        config={
            "endpoint": server.endpoint,
            "access_key_id": server.access_key,
            "secret_access_key": server.secret_key.get_secret_value(),
            "region": "us-east-1",
        },
        client_options={"allow_http": True, "timeout": timedelta(seconds=5)},
        retry_config={"max_retries": 0},
    )
    while time.monotonic() < deadline and process.poll() is None:
        try:
            # Reading before writing: the object of an earlier start proves that the old volumes are there.
            with contextlib.suppress(s3_errors.NotFoundError, FileNotFoundError):
                obstore.get(probe, "probe").bytes()
            obstore.put(probe, "probe", b"ready")
        except s3_errors.BaseError:
            time.sleep(0.1)
        else:
            return True
    return False


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _is_ours(pid: int, root: Path) -> bool:
    """True if the pid still runs a server on our data folder; a recycled pid does not."""
    return f"-dir={root / 'data'}" in _command_line(pid)


def _stop_recorded(root: Path, *, timeout_seconds: float) -> bool:
    record = _record(root)
    if record is None or not _is_ours(record.pid, root):
        return False
    _terminate(record.pid, timeout_seconds=timeout_seconds)
    return True


def _command_line(pid: int) -> list[str]:
    process = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        try:
            return process.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []
    listing = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.split()


def _terminate(pid: int, *, timeout_seconds: float) -> None:
    for kill_signal in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, kill_signal)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if not _exists(pid):
                return
            time.sleep(0.05)
    raise EmbeddedServerError(f"Process {pid} of the embedded S3 server does not stop.")


def _exists(pid: int) -> bool:
    """False once the process is gone. A zombie whose threads have all ended is: its files and ports are closed."""
    if not Path("/proc/self").exists():
        return bool(_command_line(pid))
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (ProcessLookupError, FileNotFoundError):
        return False


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    with (root / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def describe(server: EmbeddedServer) -> dict[str, object]:
    """What `pixel s3 status` shows; no secret in it."""
    return {
        "endpoint": server.endpoint,
        "pid": server.pid,
        "data": str(server.data_dir),
        "ports": asdict(server)["ports"],
    }
