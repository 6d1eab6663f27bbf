"""The files beside the data that describe the server: `server.json`, `credentials.json`, `identities.json`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import fcntl
import json
from pathlib import Path
import secrets
from typing import Any

from pixel_pipeline.files import atomic_file
from pixel_pipeline.lake.embedded.errors import EmbeddedServerError


@dataclass(frozen=True)
class Record:
    """`server.json`: the server started last. `ready` once it has stored and returned an object."""

    pid: int
    ports: dict[str, int]
    ready: bool


def read_record(root: Path) -> Record | None:
    try:
        return Record(**_read(root / "server.json", {"pid", "ports", "ready"}))
    except FileNotFoundError:
        return None


def read_credentials(root: Path) -> dict[str, str]:
    """Access key and secret key. Raises FileNotFoundError before the first start."""
    return _read(root / "credentials.json", {"access_key", "secret_key"})


def ensure_credentials(root: Path) -> dict[str, str]:
    """Access key and secret key, created at the first start."""
    path = root / "credentials.json"
    if not path.exists():
        write_private(
            path,
            {"access_key": f"PIXEL{secrets.token_hex(8).upper()}", "secret_key": secrets.token_urlsafe(32)},
        )
    return read_credentials(root)


def write_identities(root: Path) -> Path:
    """Write the credentials as SeaweedFS reads them."""
    credentials = ensure_credentials(root)
    path = root / "identities.json"
    key_pair = {"accessKey": credentials["access_key"], "secretKey": credentials["secret_key"]}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    write_private(path, {"identities": [{"name": "pixel", "credentials": [key_pair], "actions": actions}]})
    return path


def write_private(path: Path, value: object) -> None:
    """Write JSON that only its owner can read."""
    with atomic_file(path, mode=0o600) as file:
        file.write(json.dumps(value, indent=2).encode())


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock that serialises starting and stopping."""
    with (root / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path, names: set[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict) or set(content) != names:
        raise EmbeddedServerError(
            f"{path} is damaged.",
            hint="Stop any `weed` process that serves this folder, and delete the file.",
        )
    return content
