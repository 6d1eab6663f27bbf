"""Loopback ports of the embedded server."""

import random
import socket

from pixel_pipeline.lake.embedded.errors import EmbeddedServerError

HOST = "127.0.0.1"
# Below the ephemeral ranges of Linux (32768+) and macOS (49152+): no outgoing connection takes a port between the check
# here and the server's bind.
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


def choose_ports(previous: dict[str, int] | None) -> dict[str, int]:
    """Return a free port for each service: the previous ones if all of them are free."""
    if previous is not None and set(previous) == set(SERVICES) and all(map(_is_free, previous.values())):
        return previous
    free = filter(_is_free, random.sample(PORT_RANGE, k=200))
    chosen = dict(zip(SERVICES, free, strict=False))
    if len(chosen) < len(SERVICES):
        raise EmbeddedServerError(
            f"Fewer than {len(SERVICES)} loopback ports are free between {PORT_RANGE.start} and {PORT_RANGE.stop}."
        )
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
