"""Ray sessions in separate processes: on a running cluster, and ended by Ctrl-C."""

from collections.abc import Iterator
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import tempfile
from typing import NamedTuple

import orjson
import psutil
import pytest

import pixel_pipeline
from pixel_pipeline.compute.ray_executor import RayExecutor
from pixel_pipeline.compute.ray_session import ClusterError
from pixel_pipeline_tests.compute.session_folders import session_folders

DRIVER = """
from importlib.util import find_spec
import math, os, sys
from pathlib import Path
import orjson
from pixel_pipeline.compute.ray_executor import RayExecutor

with RayExecutor(workers=1, address=sys.argv[1], environment={"PIXEL_BUCKET": "passed-on"}) as executor:
    found = {
        "workers": executor.workers,
        "variables": [*executor.map(os.getenv, ["PIXEL_BUCKET", "NODE_SECRET", "DRIVER_SECRET"])],
        "origins": [spec.origin for spec in executor.map(find_spec, ["pixel_pipeline"] * 2)],
    }
    sources = [spec.submodule_search_locations[0] + "/versions.py" for spec in executor.map(find_spec, ["pixel_pipeline"] * 2)]
    found["sources"] = [content.decode() for content in executor.map(Path.read_bytes, [*map(Path, sources)])]
    try:
        [*executor.map(math.sqrt, [1, -1])]
    except ValueError as error:
        found["error"] = [type(error).__name__, str(error)]
print(orjson.dumps(found).decode())
"""
INTERRUPTED = """
import os, time
from pixel_pipeline.compute.ray_executor import RayExecutor

with RayExecutor(workers=2) as executor:
    for _ in executor.map(time.sleep, [0, *[600] * 20]):
        print("working", flush=True)
"""
# Keeps the cluster on loopback, and makes the driver look for it there.
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}


class Cluster(NamedTuple):
    """The two addresses of a running cluster."""

    node: str
    client: str


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head node with two CPUs and a secret in its environment, started like `ray start` does."""
    with tempfile.TemporaryDirectory(prefix="ray-node-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield from _head_node(folder)


def _head_node(folder: str) -> Iterator[Cluster]:
    ports = _free_ports(2)
    head = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
            *(f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}", "--node-ip-address=127.0.0.1"),
            *(
                f"--temp-dir={folder}",
                "--include-dashboard=false",
                "--disable-usage-stats",
                f"--object-store-memory={128 * 1024**2}",
            ),
        ],
        env={**os.environ, **ON_LOOPBACK, "NODE_SECRET": "of the node"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert head.stdout is not None
    output = []
    for line in head.stdout:
        output.append(line)
        if "--block" in line:
            break
    assert head.poll() is None, "".join(output)
    yield Cluster(node=f"127.0.0.1:{ports[0]}", client=f"ray://127.0.0.1:{ports[1]}")
    family = [head, *psutil.Process(head.pid).children(recursive=True)]
    head.terminate()
    head.communicate()
    psutil.wait_procs(family[1:], timeout=60)


@pytest.mark.parametrize("address", ["node", "client"])
def test_a_running_cluster_uses_our_code_and_its_own_secrets(cluster: Cluster, address: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, getattr(cluster, address)],
        env={**os.environ, **ON_LOOPBACK, "DRIVER_SECRET": "of the driver"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = orjson.loads(done.stdout)
    origins = found.pop("origins")
    assert found == {
        "workers": 2,
        "variables": ["passed-on", "of the node", None],
        "sources": [(Path(pixel_pipeline.__file__).parent / "versions.py").read_text()] * 2,
        "error": ["ValueError", "math domain error"],
    }
    assert str(Path(pixel_pipeline.__file__)) not in origins


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "ray://127.0.0.1:port", "nonsense"]
)
def test_a_missing_cluster_is_reported_at_once(address: str) -> None:
    (port,) = _free_ports(1)
    with (
        RayExecutor(workers=1, address=address.format(port)) as executor,
        pytest.raises(ClusterError, match="PIXEL_RAY_ADDRESS"),
    ):
        executor.workers  # noqa: B018  the property queries the cluster


def test_ctrl_c_ends_all_processes_and_leaves_no_file() -> None:
    """A terminal sends SIGINT to every process of the group."""
    driver = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "working\n"
    family = psutil.Process(driver.pid).children(recursive=True)
    assert any("raylet" in process.name() for process in family)
    (folder,) = session_folders(family)
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate()
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert driver.returncode == -signal.SIGINT
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert not folder.exists()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
