"""Connect this process to Ray: to a private cluster on this machine, or to a running one.

Ray reads much of its configuration on import, so nothing imports it before a session is opened.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
import logging
import os
from pathlib import Path
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from urllib.parse import urlsplit

from pixel_pipeline.errors import PixelError

PACKAGE = Path(__file__).parent.parent
# Shared memory for pending results; Ray spills the rest to disk.
OBJECT_STORE_BYTES = 256 * 1024**2
# Retries of a task whose worker was killed.
RETRIES = 2
CONNECT_SECONDS = 10


class ClusterError(PixelError):
    """Ray is unreachable or could not run a task."""


@contextmanager
def ray_session(*, cpus: int, address: str | None) -> Iterator[None]:
    """Connect, and disconnect on leaving. An existing connection of this process is reused and kept.

    Args:
        cpus: CPUs of a cluster started here.
        address: Address of a running cluster: `auto` for the one on this machine, `ray://host:port` or `host:port`. Without
            it, one is started here, reachable only from this machine and with this process's token.

    Raises:
        ClusterError: no cluster at the address, or it could not be started.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ignore errors of tasks whose results are no longer needed.
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
    if address is None:
        _restrict_to_this_machine()
    else:
        _check_reachable(address)
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        yield
        return
    with ExitStack() as cleanup:
        try:
            with _sigterm_handler_kept():
                if address is None:
                    _start(cpus=cpus, folder=cleanup.enter_context(_private_folder()))
                else:
                    _join(address)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            problem = "Ray did not start" if address is None else f"No Ray cluster at {address}"
            raise ClusterError(
                f"{problem}: {type(error).__name__}.",
                hint="Check PIXEL_RAY_ADDRESS, and that the cluster runs this machine's versions of Python and Ray.",
            ) from error
        # Ray reports killed workers on stdout, which is reserved for a command's output.
        ray._private.worker._worker_logs_enabled = False
        try:
            yield
        finally:
            ray.shutdown()  # type: ignore[no-untyped-call]


def _start(*, cpus: int, folder: str) -> None:
    import ray

    # Ray makes its folder (sockets, logs, spilled results) world-readable, so it is nested in a private folder.
    ray.init(
        "local",
        num_cpus=cpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
        _temp_dir=f"{folder}/r",
        # By default Ray retries a task that runs out of memory forever.
        _system_config={"task_oom_retries": RETRIES},
    )


def _join(address: str) -> None:
    import ray

    # Ship our code with the job, so that every node runs it regardless of its installed version. As working_dir, not py_modules:
    # those come after the driver's folder on sys.path, where a node may have another checkout.
    with _private_folder() as folder:
        shutil.copytree(PACKAGE, f"{folder}/{PACKAGE.name}", ignore=shutil.ignore_patterns("__pycache__"))
        ray.init(
            address, runtime_env={"working_dir": folder}, log_to_driver=False, logging_level=logging.ERROR
        )


def _private_folder() -> AbstractContextManager[str]:
    # In /tmp whatever TMPDIR is, because a socket's path is limited to 107 bytes.
    return tempfile.TemporaryDirectory(prefix="pixel-ray-", dir="/tmp", ignore_cleanup_errors=True)


def _restrict_to_this_machine() -> None:
    # Listen on loopback only, on Linux too despite the variable's name.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # Access to Ray means running code as this user. Without our token, Ray writes a world-readable one to the home folder.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _check_reachable(address: str) -> None:
    # Ray itself retries silently for minutes.
    try:
        url = urlsplit(address if "://" in address else f"//{address}")
        if url.hostname is None or url.port is None:
            return
        socket.create_connection((url.hostname, url.port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No Ray cluster at {address}: {type(error).__name__}.",
            hint="Check PIXEL_RAY_ADDRESS, and that this machine can reach the head node's port.",
        ) from None


@contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Restore the SIGTERM handler, which ends a run cleanly; Ray replaces it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
