"""This process's connection to Ray: a cluster of its own on this machine, or one that is running somewhere.

Ray reads much of its configuration when it is imported, so nothing imports it before a session is opened.
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
# Of shared memory, for results on their way; more of them are spilled to disk.
OBJECT_STORE_BYTES = 256 * 1024**2
# Of a task whose worker was killed, after which the task itself is to blame.
RETRIES = 2
REACH_SECONDS = 10


class ClusterError(PixelError):
    """Ray does not answer, or could not run a task."""


@contextmanager
def ray_session(*, cpus: int, address: str | None) -> Iterator[None]:
    """Connect, and disconnect on leaving. A connection that this process has already is used and left as it is.

    Args:
        cpus: Of a cluster started here.
        address: Of a running one: `auto` for the one on this machine, `ray://host:port` or `host:port`. Without it, one is
            started here, reachable from this machine and with this process's token alone.

    Raises:
        ClusterError: no cluster at the address, or none could be started.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # What became of a task that nobody waits for any more is no news.
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
    if address is None:
        _keep_to_this_machine()
    else:
        _check_reachable(address)
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        yield
        return
    with ExitStack() as left_behind:
        try:
            with _signals_untouched():
                if address is None:
                    _start(cpus=cpus, folder=left_behind.enter_context(_private_folder()))
                else:
                    _join(address)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            where = "Ray did not start here" if address is None else f"No Ray cluster at {address}"
            raise ClusterError(
                f"{where}: {type(error).__name__}.",
                hint="Check PIXEL_RAY_ADDRESS, and that the cluster has this machine's versions of Python and Ray.",
            ) from error
        # Ray would tell of killed workers on stdout, which belongs to what a command answers.
        ray._private.worker._worker_logs_enabled = False
        try:
            yield
        finally:
            ray.shutdown()  # type: ignore[no-untyped-call]


def _start(*, cpus: int, folder: str) -> None:
    import ray

    # Ray opens its folder to all users of the machine, with sockets, logs, and results that did not fit into memory in
    # it; so it lies in one that is not.
    ray.init(
        "local",
        num_cpus=cpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
        _temp_dir=f"{folder}/r",
        # By default a task that runs out of memory is tried without end.
        _system_config={"task_oom_retries": RETRIES},
    )


def _join(address: str) -> None:
    import ray

    # Our code travels with the job, so that all nodes run the same whatever is installed there. As the working folder: a
    # module to import beside it would come after the driver's own folder, where a node may have another checkout.
    with _private_folder() as folder:
        shutil.copytree(PACKAGE, f"{folder}/{PACKAGE.name}", ignore=shutil.ignore_patterns("__pycache__"))
        ray.init(
            address, runtime_env={"working_dir": folder}, log_to_driver=False, logging_level=logging.ERROR
        )


def _private_folder() -> AbstractContextManager[str]:
    # Below /tmp whatever TMPDIR says, for a socket's path may have no more than 107 bytes.
    return tempfile.TemporaryDirectory(prefix="pixel-ray-", dir="/tmp", ignore_cleanup_errors=True)


def _keep_to_this_machine() -> None:
    # Ray listens on all interfaces otherwise. The variable's name tells where Ray needed it first.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # Whoever may talk to Ray may run code as this user. Ray would write a token of its own, readable by all, to the home
    # folder.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _check_reachable(address: str) -> None:
    # Ray itself tries for minutes, and says nothing.
    try:
        url = urlsplit(address if "://" in address else f"//{address}")
        if url.hostname is None or url.port is None:
            return
        socket.create_connection((url.hostname, url.port), timeout=REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No Ray cluster at {address}: {type(error).__name__}.",
            hint="Check PIXEL_RAY_ADDRESS, and that the head node and its port can be reached from here.",
        ) from None


@contextmanager
def _signals_untouched() -> Iterator[None]:
    """Ray puts a handler of its own in the place of the one that ends a run in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
