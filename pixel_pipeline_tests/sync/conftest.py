"""Stand-ins for the Drive."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pixel_pipeline.lake.embedded import EmbeddedServer, ensure_running
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline_tests.faults import FaultProxy

FILES = {
    "Grief and Loss/sessions.jsonl": b'{"a": 1}\n',
    "Couples & Family/größe – Übung.csv": b"a,b\n",
    "心理咨询/会话 1.json": b"[]",
    "deep/er/🙂 smile.txt": b"hello",
    "plus+percent%20=hash#.txt": b"odd",
    "empty.json": b"",
}


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A folder with FILES."""
    root = tmp_path / "drive"
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture
def server(session_home: Path) -> EmbeddedServer:
    """The S3 server of the test session."""
    return ensure_running(session_home)


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    """A proxy before the S3 server that passes everything until a test adds faults."""
    with FaultProxy(upstream=urlsplit(server.endpoint).port or 0) as running:
        yield running


@pytest.fixture
def s3_drive(lake: Lake, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """A remote `gdrive:` with FILES, configured by environment: another bucket, behind the proxy."""
    for name, content in FILES.items():
        lake.checkpoints.put(f"Team/{name}", content)
    for option, value in {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": proxy.endpoint,
        "ACCESS_KEY_ID": lake.target.access_key,
        "SECRET_ACCESS_KEY": lake.target.secret_key.get_secret_value(),
    }.items():
        monkeypatch.setenv(f"RCLONE_CONFIG_GDRIVE_{option}", value)
    return f"gdrive:{lake.checkpoints.name}/Team"


@pytest.fixture
def lake_behind(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Callable[[FaultProxy], Lake]:
    """Open the same lake through a proxy."""

    def open_behind(proxy: FaultProxy) -> Lake:
        monkeypatch.setenv("PIXEL_S3_ENDPOINT", proxy.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", lake.target.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", lake.target.secret_key.get_secret_value())
        return Lake.open(get_settings())

    return open_behind
