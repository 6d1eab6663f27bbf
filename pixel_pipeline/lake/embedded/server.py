"""Starts, finds and stops the server.

State is stored under `<home>/s3`: `data/`, `weed.log`, `buckets/` and the files of `records.py`. A file lock serialises
starting and stopping, so racing processes start exactly one server.
"""

import contextlib
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
import http.client
from pathlib import Path
import shutil
import subprocess
import time

import obstore
from obstore import exceptions as s3_errors
from obstore.store import S3Store
from pydantic import SecretStr

from pixel_pipeline.lake.embedded import process
from pixel_pipeline.lake.embedded.errors import DiskFullError, EmbeddedServerError
from pixel_pipeline.lake.embedded.ports import HOST, choose_ports
from pixel_pipeline.lake.embedded.records import (
    Record,
    ensure_credentials,
    locked,
    read_credentials,
    read_record,
    write_identities,
    write_private,
)

START_TIMEOUT_SECONDS = 60.0
PROBE_BUCKET = "pixel-embedded"


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


def ensure_running(home: Path, *, min_free_bytes: int = 0) -> EmbeddedServer:
    """Return the server of this home, started if necessary. Safe to call from racing processes.

    Raises:
        DiskFullError: less than `min_free_bytes` free on the disk of the data.
        EmbeddedServerError: it does not start; the hint names its log.
    """
    root = home / "s3"
    running = status(home)
    if running is not None:
        return running
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(root):
        running = status(home)
        if running is not None:
            return running
        # Two servers must never share the data, so a recorded one that is not ready or does not answer is stopped first.
        _stop_recorded(root, timeout_seconds=2.0)
        free = shutil.disk_usage(root).free
        if free < min_free_bytes:
            raise DiskFullError(
                f"{home} has {free / 1024**2:,.0f} MiB of free disk; the embedded S3 server needs {min_free_bytes / 1024**2:,.0f} MiB.",
                hint="Free some space, or point PIXEL_HOME at a larger disk (limit: PIXEL_MIN_FREE_BYTES).",
            )
        return _start(root)


def status(home: Path) -> EmbeddedServer | None:
    """Return the running server of this home, or None. One that is still starting does not count."""
    root = home / "s3"
    record = read_record(root)
    if record is None or not record.ready:
        return None
    try:
        server = _server(root, record)
    except FileNotFoundError:
        return None
    return server if process.serves(server.pid, server.data_dir) and _is_healthy(server) else None


def stop(home: Path, *, timeout_seconds: float = 2.0) -> bool:
    """Stop the server of this home; False if none was running.

    The server's own shutdown waits 15 s for an internal stream that never ends. Its files are append-only and survive a
    kill, so it is killed after `timeout_seconds`.
    """
    root = home / "s3"
    if not root.is_dir():
        return False
    with locked(root):
        # The record stays: the master's state refers to these ports, so the next start asks for the same.
        return _stop_recorded(root, timeout_seconds=timeout_seconds)


def describe(server: EmbeddedServer) -> dict[str, object]:
    """Return the facts that `pixel s3 status` shows, without secrets."""
    return {
        "endpoint": server.endpoint,
        "pid": server.pid,
        "data": str(server.data_dir),
        "ports": dict(server.ports),
    }


def ensure_bucket(home: Path, name: str) -> None:
    """Create a bucket on the embedded server unless it is known to exist."""
    if not _bucket_mark(home / "s3", name).exists():
        _create_bucket(home / "s3", name=name, server=ensure_running(home))


def _bucket_mark(root: Path, name: str) -> Path:
    return root / "buckets" / name


def _create_bucket(root: Path, *, name: str, server: EmbeddedServer) -> None:
    # Importing boto3 costs more than everything else here; the mark saves it from the second time on.
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
            # A server that has just started answers 500 until its volumes have registered.
            retries={"mode": "standard", "max_attempts": 10},
        ),
    )
    exceptions = client.exceptions
    with contextlib.suppress(exceptions.BucketAlreadyExists, exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=name)
    mark = _bucket_mark(root, name)
    mark.parent.mkdir(exist_ok=True)
    mark.touch()


def _start(root: Path) -> EmbeddedServer:
    data, log = root / "data", root / "weed.log"
    data.mkdir(exist_ok=True, mode=0o700)
    ensure_credentials(root)
    identities = write_identities(root)
    for attempt in range(3):
        previous = read_record(root) if attempt == 0 else None
        ports = choose_ports(None if previous is None else previous.ports)
        with log.open("ab" if attempt else "wb") as output:
            started = subprocess.Popen(
                process.command(data=data, identities=identities, ports=ports),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=root,
                # A session of its own: Ctrl-C in the terminal that started it must not stop it.
                start_new_session=True,
            )
        record = Record(pid=started.pid, ports=ports, ready=False)
        write_private(root / "server.json", asdict(record))
        server = _server(root, record)
        if _wait_until_serving(started, root=root, server=server):
            write_private(root / "server.json", asdict(replace(record, ready=True)))
            return server
        if started.poll() is None:
            process.terminate(started.pid, timeout_seconds=5)
            started.wait()
    raise EmbeddedServerError("The embedded S3 server did not start.", hint=f"See the end of {log}.")


def _server(root: Path, record: Record) -> EmbeddedServer:
    credentials = read_credentials(root)
    return EmbeddedServer(
        pid=record.pid,
        ports=record.ports,
        access_key=credentials["access_key"],
        secret_key=SecretStr(credentials["secret_key"]),
        data_dir=root / "data",
    )


def _wait_until_serving(started: subprocess.Popen[bytes], *, root: Path, server: EmbeddedServer) -> bool:
    """True once an object can be written and read back; the health page answers seconds before that."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS

    def can_wait() -> bool:
        return time.monotonic() < deadline and started.poll() is None

    while not _is_healthy(server):
        if not can_wait():
            return False
        time.sleep(0.05)
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
    while can_wait():
        try:
            # Read before writing: the object of an earlier start proves that the old volumes are there.
            with contextlib.suppress(s3_errors.NotFoundError, FileNotFoundError):
                obstore.get(probe, "probe").bytes()
            obstore.put(probe, "probe", b"ready")
        except s3_errors.BaseError:
            time.sleep(0.1)
        else:
            return True
    return False


def _is_healthy(server: EmbeddedServer) -> bool:
    connection = http.client.HTTPConnection(HOST, server.ports["s3.port"], timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop_recorded(root: Path, *, timeout_seconds: float) -> bool:
    record = read_record(root)
    if record is None or not process.serves(record.pid, root / "data"):
        return False
    process.terminate(record.pid, timeout_seconds=timeout_seconds)
    return True
