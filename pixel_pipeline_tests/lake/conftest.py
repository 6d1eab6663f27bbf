"""The embedded server as a remote one: reached by an endpoint and a key pair, through a proxy that fails on purpose."""

from collections.abc import Callable, Iterator

import pytest

from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings, get_settings
from pixel_pipeline_tests.faults import FaultProxy


@pytest.fixture
def server(lake: Lake, settings: Settings) -> embedded.EmbeddedServer:
    """The embedded server, with this test's two buckets."""
    running = embedded.status(settings.home)
    assert running is not None
    return running


@pytest.fixture
def connect(server: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lake]:
    """Opens the lake by an endpoint and a key pair in the environment."""

    def open_lake(endpoint: str, *, access_key: str | None = None, secret_key: str | None = None) -> Lake:
        monkeypatch.setenv("PIXEL_S3_ENDPOINT", endpoint)
        monkeypatch.setenv("OVH_S3_ACCESS_KEY", access_key or server.access_key)
        monkeypatch.setenv("OVH_S3_SECRET_KEY", secret_key or server.secret_key.get_secret_value())
        return Lake.open(get_settings())

    return open_lake


@pytest.fixture
def proxy(server: embedded.EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.ports["s3.port"]) as running:
        yield running
