"""Wrong settings, dying connections and failing servers: the right bytes, or an error that says what to do."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
import subprocess
import sys
import time
import traceback
from typing import Any

import pyarrow as pa
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import embedded, ranged
from pixel_pipeline.lake.errors import LakeAccessError, LakeUnreachableError, LakeWriteError
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table
from pixel_pipeline.settings import Settings, get_settings
from pixel_pipeline_tests.faults import Fault, FaultProxy, make_authority

WRONG_SECRET = "plantedWrongSecret0123456789abcdef"
UNKNOWN_KEY = "PLANTEDUNKNOWNKEY"


@pytest.fixture
def server(lake: Lake, settings: Settings) -> embedded.EmbeddedServer:
    """The embedded server, whose two buckets of this test exist."""
    running = embedded.status(settings.home)
    assert running is not None
    return running


@pytest.fixture
def connect(server: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lake]:
    """Opens the lake as if it were elsewhere: an endpoint and a key pair in the environment."""

    def open_lake(endpoint: str, *, access_key: str | None = None, secret_key: str | None = None) -> Lake:
        monkeypatch.setenv("PIXEL_S3_ENDPOINT", endpoint)
        monkeypatch.setenv("OVH_S3_ACCESS_KEY", access_key or server.access_key)
        monkeypatch.setenv("OVH_S3_SECRET_KEY", secret_key or server.secret_key)
        return Lake.open(get_settings())

    return open_lake


@pytest.fixture
def proxy(server: embedded.EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.ports["s3.port"]) as running:
        yield running


CLIENT = """
import sys
import pyarrow as pa
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table
from pixel_pipeline.settings import get_settings

lake = Lake.open(get_settings())
for operation in sys.argv[1:]:
    try:
        print("ok", eval(operation))
    except PixelError as error:
        print(type(error).__name__, error.message)
"""


def client(*operations: str) -> list[str]:
    """What operations on `lake` came to, in a process of its own.

    Trust in authorities is a setting of the process, and delta-rs holds the interpreter's lock while it waits for a
    server, which a proxy in this process could not answer then.
    """
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *operations], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


OPERATIONS: dict[str, Callable[[Lake], Any]] = {
    "get": lambda lake: lake.data.get("key"),
    "put": lambda lake: lake.data.put("key", b"x"),
    "list": lambda lake: [*lake.data.list("key")],
    "delete": lambda lake: lake.data.delete(["key"]),
    "open": lambda lake: lake.data.open("key"),
    "check": lambda lake: lake.check(),
    "table exists": lambda lake: Table(lake, "table").exists(),
    "table write": lambda lake: Table(lake, "table").overwrite(pa.table({"a": [1]})),
}


def assert_silent(error: BaseException, server: embedded.EmbeddedServer) -> None:
    """Neither in the message nor in anything chained to it and shown with it."""
    text = "".join(traceback.format_exception(error)) + repr(error)
    for secret in (server.secret_key, server.access_key, WRONG_SECRET, UNKNOWN_KEY):
        assert secret not in text


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "wrong", [{"secret_key": WRONG_SECRET}, {"access_key": UNKNOWN_KEY}], ids=["secret", "key id"]
)
def test_wrong_credentials_name_their_source(
    server: embedded.EmbeddedServer, connect: Callable[..., Lake], wrong: dict[str, str], operation: str
) -> None:
    lake = connect(server.endpoint, **wrong)
    with pytest.raises(LakeAccessError, match="from OVH_S3_ACCESS_KEY") as caught:
        OPERATIONS[operation](lake)
    assert_silent(caught.value, server)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_missing_bucket_names_its_setting(
    server: embedded.EmbeddedServer,
    connect: Callable[..., Lake],
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
) -> None:
    monkeypatch.setenv("PIXEL_BUCKET", "no-such-bucket")
    lake = connect(server.endpoint)
    with pytest.raises(
        LakeAccessError, match=r"Bucket no-such-bucket does not exist(?s:.*)PIXEL_BUCKET"
    ) as caught:
        OPERATIONS[operation](lake)
    assert_silent(caught.value, server)


@pytest.mark.parametrize("operation", ["get", "check", "table exists"])
def test_an_unreachable_endpoint_is_told_soon(
    server: embedded.EmbeddedServer, connect: Callable[..., Lake], operation: str
) -> None:
    with FaultProxy(server.ports["s3.port"]) as gone:
        endpoint = gone.endpoint
    started = time.monotonic()
    with pytest.raises(
        LakeUnreachableError, match=f"{endpoint} does not answer(?s:.*)PIXEL_S3_ENDPOINT"
    ) as caught:
        OPERATIONS[operation](connect(endpoint))
    # Not a measurement: the library's own defaults keep a user waiting for three minutes.
    assert time.monotonic() - started < 35
    assert_silent(caught.value, server)


@pytest.mark.parametrize(
    "fault", [Fault("status"), Fault("reset", after=20), Fault("truncate", after=20)], ids=lambda f: f.kind
)
@pytest.mark.parametrize("operation", ["get", "put", "list"])
def test_a_passing_fault_is_survived(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, fault: Fault, operation: str
) -> None:
    lake.data.put("key", b"right" * 1000)
    flaky = connect(proxy.endpoint)
    proxy.faults = [fault]
    try:
        result = OPERATIONS[operation](flaky)
    except PixelError:
        # A body that breaks off half-way is not asked for again by every version of the library.
        assert fault.kind != "status"
        return
    if operation == "get":
        assert result == b"right" * 1000
    assert len(proxy.requests) >= 2


@pytest.mark.parametrize(
    ("kind", "after"), [("reset", 0), ("truncate", 100), ("reset", 2_000), ("truncate", 600_000)]
)
def test_broken_bodies_never_become_content(
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    server: embedded.EmbeddedServer,
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    after: int,
) -> None:
    monkeypatch.setattr(ranged, "CHUNK_BYTES", 300_000)
    content = bytes(range(256)) * 4_000
    lake.data.put("object", content)
    flaky = connect(proxy.endpoint)

    def downloaded() -> bytes:
        flaky.data.download("object", tmp_path / "copy")
        return (tmp_path / "copy").read_bytes()

    def streamed() -> bytes:
        with flaky.data.open("object") as reader:
            return reader.read()

    reads: tuple[Callable[[], bytes], ...] = (lambda: flaky.data.get("object"), downloaded, streamed)
    for read in reads:
        proxy.faults = [Fault(kind, after=after)] * 3
        try:
            assert read() == content
        except PixelError as error:
            assert_silent(error, server)
    assert {path.name for path in tmp_path.iterdir()} <= {"copy"}


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_keeps_failing(
    proxy: FaultProxy, connect: Callable[..., Lake], server: embedded.EmbeddedServer, status: int
) -> None:
    lake = connect(proxy.endpoint)
    proxy.always = Fault("status", status=status)
    for operation in ("get", "put", "list"):
        with pytest.raises((LakeUnreachableError, LakeWriteError), match=proxy.endpoint) as caught:
            OPERATIONS[operation](lake)
        assert_silent(caught.value, server)


@pytest.mark.parametrize("allowed", [0, 3, 5])
def test_a_server_that_fails_in_mid_write_leaves_the_old_table(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, allowed: int
) -> None:
    table = Table(lake, "table")
    table.overwrite(pa.table({"a": [1, 2, 3, 4]}))
    connect(proxy.endpoint)
    proxy.faults = [Fault("none")] * allowed
    proxy.always = Fault("status")
    (said,) = client('Table(lake, "table").overwrite(pa.table({"a": [5]}))')
    assert said.startswith(("LakeWriteError", "LakeUnreachableError"))
    assert len(proxy.requests) > allowed
    assert table.dataset().to_table()["a"].to_pylist() == [1, 2, 3, 4]
    assert table.overwrite(pa.table({"a": [6]})) == 1


def test_create_only_that_succeeded_is_known_though_its_answer_was_lost(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake
) -> None:
    """The retry finds its own object; whatever is reported, the object is the one that was put."""
    proxy.faults = [Fault("truncate", after=0)]
    with suppress(PixelError):
        connect(proxy.endpoint).data.put("once", b"mine", create_only=True)
    assert lake.data.get("once") == b"mine"


def test_tls_needs_an_authority_that_is_trusted(
    server: embedded.EmbeddedServer,
    connect: Callable[..., Lake],
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = make_authority(tmp_path)
    operations = (
        'lake.data.put("over-tls", b"x")',
        'Table(lake, "tls-table").overwrite(pa.table({"a": [1, 2, 3]}))',
        'Table(lake, "tls-table").row_count()',
    )
    with FaultProxy(server.ports["s3.port"], tls=authority.context) as proxy:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        connect(proxy.endpoint)
        refused = client(*operations)
        assert len(refused) == 3
        for line in refused:
            assert line.startswith("LakeUnreachableError")
            assert "TLS certificate is not trusted" in line
        assert not lake.data.exists("over-tls")
        monkeypatch.setenv("PIXEL_S3_CA_BUNDLE", str(authority.certificate))
        trusted = client(*operations)
    assert [line.split()[0] for line in trusted] == ["ok"] * 3, trusted
    assert trusted[2] == "ok 3"
    assert lake.data.get("over-tls") == b"x"
