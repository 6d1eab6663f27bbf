"""Wrong settings, broken connections and failing servers: the right bytes, or an error with a remedy.

Over 300 lines: one table of operations and faults is shared by all tests.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
import re
import subprocess
import sys
import time
import traceback
from typing import Any

import pyarrow as pa
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3 import client as client_settings
from pixel_pipeline.lake.s3 import ranged
from pixel_pipeline.lake.s3.errors import (
    LakeAccessError,
    LakeBusyError,
    LakeConflictError,
    LakeUnreachableError,
    LakeWriteError,
    ObjectCorruptError,
    ObjectExistsError,
)
from pixel_pipeline.lake.s3.ranged import CHUNK_BYTES
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline_tests.faults import Fault, FaultProxy, make_authority

WRONG_SECRET = "plantedWrongSecret0123456789abcdef"
UNKNOWN_KEY = "PLANTEDUNKNOWNKEY"


CLIENT = """
import sys
import pyarrow as pa
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.s3 import client
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import get_settings

client.MAX_RETRIES = 2
lake = Lake.open(get_settings())
for operation in sys.argv[1:]:
    try:
        print("ok", eval(operation))
    except PixelError as error:
        print(type(error).__name__, error.message)
"""


def client(*operations: str) -> list[str]:
    """Evaluate operations on `lake` in a separate process.

    Trusted authorities are a setting of the process, and delta-rs holds the interpreter's lock while it waits, so a proxy in
    the same process could not answer.
    """
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *operations], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


OPERATIONS: dict[str, Callable[[Lake], Any]] = {
    "get": lambda lake: lake.data.get("key"),
    "exists": lambda lake: lake.data.exists("key"),
    "put": lambda lake: lake.data.put("key", b"x"),
    "list": lambda lake: [*lake.data.list("key")],
    "delete": lambda lake: lake.data.delete(["key"]),
    "open": lambda lake: lake.data.open("key"),
    "check": lambda lake: lake.check(),
    "table exists": lambda lake: Table(lake, "table").exists(),
    "table write": lambda lake: Table(lake, "table").overwrite(pa.table({"a": [1]})),
}


def assert_silent(error: BaseException, server: embedded.EmbeddedServer) -> None:
    """Check that neither the message nor a chained error contains a secret."""
    text = "".join(traceback.format_exception(error)) + repr(error)
    for secret in (server.secret_key.get_secret_value(), server.access_key, WRONG_SECRET, UNKNOWN_KEY):
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
def test_an_unreachable_endpoint_fails_soon(
    server: embedded.EmbeddedServer, connect: Callable[..., Lake], operation: str
) -> None:
    with FaultProxy(server.ports["s3.port"]) as gone:
        endpoint = gone.endpoint
    started = time.monotonic()
    with pytest.raises(
        LakeUnreachableError, match=f"{endpoint} does not answer(?s:.*)PIXEL_S3_ENDPOINT"
    ) as caught:
        OPERATIONS[operation](connect(endpoint))
    # The library's own defaults would wait three minutes.
    assert time.monotonic() - started < 35
    assert_silent(caught.value, server)


CONTENT = bytes(range(256)) * 4
# Positions in the head and body of a response of some 1,300 bytes.
PLACES = (0, 1, 20, 150, 250, 300, 400, 700, 1_200)

READS: dict[str, Callable[[Lake, Path], bytes]] = {
    "get": lambda lake, _: lake.data.get("key"),
    "download": lambda lake, folder: downloaded(lake, folder),
    "open": lambda lake, _: lake.data.open("key").read(),
}
WRITES: dict[str, Callable[[Lake], object]] = {
    "put": lambda lake: lake.data.put("new", CONTENT),
    "create": lambda lake: lake.data.put("new", CONTENT, create_only=True),
}


def downloaded(lake: Lake, folder: Path) -> bytes:
    lake.data.download("key", folder / "copy")
    return (folder / "copy").read_bytes()


@pytest.mark.parametrize("operation", [*READS, *WRITES, "list", "delete"])
def test_a_burst_of_503_is_retried(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, tmp_path: Path, operation: str
) -> None:
    lake.data.put("key", CONTENT)
    flaky = connect(proxy.endpoint)
    flaky.data.put("_pixel/warm", b"", create_only=True)
    proxy.faults = [Fault("status", code="SlowDown")] * 5
    if operation in READS:
        assert READS[operation](flaky, tmp_path) == CONTENT
    elif operation in WRITES:
        WRITES[operation](flaky)
        assert lake.data.get("new") == CONTENT
    else:
        OPERATIONS[operation](flaky)
        assert lake.data.exists("key") == (operation == "list")
    assert proxy.faults == []


def test_a_store_that_stays_overloaded(
    proxy: FaultProxy, connect: Callable[..., Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_settings, "MAX_RETRIES", 1)
    lake = connect(proxy.endpoint)
    proxy.always = Fault("status", code="SlowDown")
    with pytest.raises(LakeBusyError, match=r"overloaded \(SlowDown\)"):
        lake.data.get("key")
    assert len(proxy.requests) == 2


@pytest.mark.parametrize("kind", ["reset", "truncate"])
@pytest.mark.parametrize("operation", READS)
def test_a_response_that_breaks_off_is_requested_again(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, tmp_path: Path, operation: str, kind: Any
) -> None:
    lake.data.put("key", CONTENT)
    flaky = connect(proxy.endpoint)
    for place in PLACES:
        proxy.faults = [Fault(kind, after=place)]
        assert READS[operation](flaky, tmp_path) == CONTENT
    assert len(proxy.requests) == 2 * len(PLACES)


@pytest.mark.parametrize("place", [0, 1, 100, len(CONTENT) - 1])
@pytest.mark.parametrize("operation", WRITES)
def test_a_request_that_breaks_off_is_sent_again(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, operation: str, place: int
) -> None:
    flaky = connect(proxy.endpoint)
    proxy.faults = [Fault("cut_request", after=place, on="^PUT .*/new")]
    WRITES[operation](flaky)
    assert proxy.faults == []
    assert lake.data.get("new") == CONTENT


def test_listings_and_deletions_that_break_off_are_repeated(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake
) -> None:
    flaky = connect(proxy.endpoint)
    for place in PLACES:
        keys = [f"folder/{number}" for number in range(3)]
        for key in keys:
            lake.data.put(key, b"x")
        proxy.faults = [Fault("reset", after=place)]
        assert [item.key for item in flaky.data.list("folder")] == keys
        proxy.faults = [Fault("reset", after=place)]
        flaky.data.delete(keys)
        assert [*lake.data.list("folder")] == []


@pytest.mark.parametrize("operation", ["get", "download"])
def test_a_corrupted_byte_is_read_again(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, tmp_path: Path, operation: str
) -> None:
    lake.data.put("key", CONTENT)
    flaky = connect(proxy.endpoint)
    for place in (0, 500, len(CONTENT) - 1):
        proxy.faults = [Fault("corrupt", after=place, on="/key$")]
        assert READS[operation](flaky, tmp_path) == CONTENT
    assert len(proxy.requests) == 6


@pytest.mark.parametrize("read_before", [False, True], ids=["nothing known", "md5 known"])
@pytest.mark.parametrize("operation", ["get", "download"])
def test_an_object_that_is_corrupted_twice_is_refused(
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    lake: Lake,
    tmp_path: Path,
    operation: str,
    read_before: bool,
) -> None:
    lake.data.put("key", CONTENT)
    flaky = connect(proxy.endpoint)
    if read_before:
        READS[operation](flaky, tmp_path)
    (tmp_path / "copy").unlink(missing_ok=True)
    proxy.always = Fault("corrupt", after=7, on="^GET")
    with pytest.raises(ObjectCorruptError, match=f"s3://{lake.data.name}/key"):
        READS[operation](flaky, tmp_path)
    assert [*tmp_path.iterdir()] == []
    assert [*lake.data.list("_pixel/probe")] == []


def test_etags_that_are_not_md5_are_accepted(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake
) -> None:
    """As on stores that encrypt: the bytes never match the ETag, and only the first object is read twice."""
    lake.data.put("key", CONTENT)
    other = connect(proxy.endpoint)
    proxy.rewrite_answer = lambda head: re.sub(
        rb'(?i)etag: "[0-9a-f]{32}"', b'ETag: "%b"' % (b"ab" * 16), head
    )
    for _ in range(3):
        assert other.data.get("key") == CONTENT
    assert [request for request in proxy.requests if request.endswith("/key")] == proxy.requests[
        :2
    ] + proxy.requests[-2:]


@pytest.mark.parametrize("operation", WRITES)
def test_a_corrupted_upload_is_sent_again_or_refused(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, operation: str
) -> None:
    flaky = connect(proxy.endpoint)
    proxy.always = Fault("corrupt_request", after=7, on="^PUT .*/new")
    with pytest.raises(ObjectCorruptError, match=f"s3://{lake.data.name}/new"):
        WRITES[operation](flaky)
    assert not lake.data.exists("new")
    proxy.faults, proxy.always = [proxy.always], None
    WRITES[operation](flaky)
    assert lake.data.get("new") == CONTENT


def test_a_corrupted_part_is_sent_again(proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake) -> None:
    content = CONTENT * 6_000
    proxy.faults = [Fault("corrupt_request", after=7, on="partNumber=1")]
    connect(proxy.endpoint).data.put("large", content)
    assert proxy.faults == []
    assert lake.data.get("large") == content


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_settings, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(client_settings, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(client_settings, "MAX_RETRIES", 2)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("operation", READS)
def test_a_stalled_connection_is_replaced(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, tmp_path: Path, operation: str
) -> None:
    lake.data.put("key", CONTENT)
    flaky = connect(proxy.endpoint)
    proxy.faults = [Fault("stall", after=700)]
    assert READS[operation](flaky, tmp_path) == CONTENT
    assert proxy.silent.is_set()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("place", [0, 700], ids=["head", "body"])
def test_connections_that_always_stall_time_out(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, place: int
) -> None:
    lake.data.put("key", CONTENT)
    flaky = connect(proxy.endpoint)
    proxy.always = Fault("stall", after=place)
    with pytest.raises(LakeUnreachableError, match="timed out"):
        flaky.data.get("key")
    assert len(proxy.requests) == 3


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["hold", "stall"])
@pytest.mark.parametrize("operation", WRITES)
def test_a_write_without_a_response(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, operation: str, kind: Any
) -> None:
    flaky = connect(proxy.endpoint)
    flaky.data.put("_pixel/warm", b"", create_only=True)
    proxy.always = Fault(kind, on="^PUT .*/new")
    if operation == "create" and kind == "stall":
        # It was written, and its metadata name the writer.
        WRITES[operation](flaky)
    else:
        with pytest.raises(LakeUnreachableError, match="timed out"):
            WRITES[operation](flaky)
    assert lake.data.exists("new") == (kind == "stall")


@pytest.mark.parametrize("operation", WRITES)
def test_a_write_whose_response_is_lost_succeeds(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, operation: str
) -> None:
    flaky = connect(proxy.endpoint)
    proxy.faults = [Fault("lose_answer", on="^PUT .*/new")]
    etag = WRITES[operation](flaky)
    assert proxy.faults == []
    assert lake.data.get("new") == CONTENT
    lake.data.open("new", etag=str(etag)).close()


def test_equal_bytes_of_another_writer_are_not_its_own(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake
) -> None:
    lake.data.put("new", CONTENT, create_only=True)
    flaky = connect(proxy.endpoint)
    for fault in (Fault("none"), Fault("lose_answer", on="/new"), Fault("cut_request", after=9, on="/new")):
        proxy.faults = [fault]
        with pytest.raises(ObjectExistsError, match=f"s3://{lake.data.name}/new"):
            flaky.data.create("new", CONTENT)


@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "OperationAborted"), (409, "ConditionalRequestConflict"), (412, "PreconditionFailed")],
)
def test_a_conflict_that_passes(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, status: int, code: str
) -> None:
    flaky = connect(proxy.endpoint)
    proxy.faults = [Fault("status", status=status, code=code, on="^PUT .*/new")] * 2
    WRITES["create"](flaky)
    assert proxy.faults == []
    assert lake.data.get("new") == CONTENT
    proxy.faults = [Fault("status", status=status, code=code, on="^PUT .*/new")]
    with pytest.raises(ObjectExistsError):
        WRITES["create"](flaky)


def test_a_conflict_that_stays(proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake) -> None:
    flaky = connect(proxy.endpoint)
    proxy.always = Fault("status", status=409, code="OperationAborted", on="^PUT .*/new")
    for write in WRITES.values():
        with pytest.raises(LakeConflictError, match="another write of it is under way"):
            write(flaky)
    assert not lake.data.exists("new")


EXPIRED = Fault("status", status=400, code="ExpiredToken")


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_expired_credentials_are_reported(
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    server: embedded.EmbeddedServer,
    operation: str,
    status: int,
) -> None:
    lake = connect(proxy.endpoint)
    proxy.always = replace(EXPIRED, status=status)
    with pytest.raises(LakeAccessError, match=r"have expired(?s:.*)from OVH_S3_ACCESS_KEY") as caught:
        OPERATIONS[operation](lake)
    assert_silent(caught.value, server)


def test_credentials_that_expire_during_a_listing(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake
) -> None:
    with ThreadPoolExecutor(8) as pool:
        [*pool.map(lambda number: lake.data.put(f"many/{number:04}", b""), range(1_001))]
    flaky = connect(proxy.endpoint)
    proxy.faults = [Fault("none"), EXPIRED]
    listed: list[str] = []
    with pytest.raises(LakeAccessError, match="have expired"):
        listed.extend(item.key for item in flaky.data.list("many"))
    assert listed == [f"many/{number:04}" for number in range(1_000)]
    # A second page that breaks off is requested again, without the first one.
    proxy.faults = [Fault("none"), Fault("reset", after=400)]
    assert [item.key for item in flaky.data.list("many")] == [*listed, "many/1000"]
    assert len(proxy.requests) == 5


def test_credentials_that_expire_during_a_read_or_write(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, tmp_path: Path
) -> None:
    content = CONTENT * 9_000
    assert len(content) > CHUNK_BYTES
    lake.data.put("key", content)
    flaky = connect(proxy.endpoint)
    # The first request has valid credentials.
    for read in READS.values():
        proxy.faults, proxy.always = [Fault("none")], EXPIRED
        with pytest.raises(LakeAccessError, match="have expired"):
            read(flaky, tmp_path)
    assert [*tmp_path.iterdir()] == []
    proxy.faults, proxy.always = [], replace(EXPIRED, on="partNumber=2")
    with pytest.raises(LakeAccessError, match="have expired"):
        flaky.data.put("new", content)
    assert not lake.data.exists("new")


@pytest.mark.parametrize(("skew", "message"), [(3_600, "behind"), (-3_600, "ahead of")])
def test_a_wrong_clock_is_named(
    proxy: FaultProxy, connect: Callable[..., Lake], skew: int, message: str
) -> None:
    lake = connect(proxy.endpoint)
    proxy.clock_skew = timedelta(seconds=skew)
    proxy.always = Fault("status", status=403, code="RequestTimeTooSkewed")
    for operation in ("get", "put", "exists"):
        with pytest.raises(
            LakeAccessError,
            match=rf"clock is 3[56]\d\d s {message} the server's(?s:.*)Set this machine's clock",
        ):
            OPERATIONS[operation](lake)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            Fault(
                "status",
                status=400,
                code="AuthorizationHeaderMalformed",
                details="<Region>eu-west-3</Region>",
            ),
            r"not in region us-east-1, but in eu-west-3(?s:.*)PIXEL_S3_REGION=eu-west-3",
        ),
        (
            Fault("status", status=301, code="PermanentRedirect"),
            r"not in region us-east-1(?s:.*)PIXEL_S3_REGION",
        ),
    ],
    ids=["malformed", "redirect"],
)
def test_a_wrong_region_is_named(
    proxy: FaultProxy, connect: Callable[..., Lake], fault: Fault, message: str
) -> None:
    lake = connect(proxy.endpoint)
    proxy.always = fault
    for operation in ("get", "put", "list"):
        with pytest.raises(LakeAccessError, match=message):
            OPERATIONS[operation](lake)


def test_exists_checks_the_bucket_once(proxy: FaultProxy, connect: Callable[..., Lake]) -> None:
    """A missing bucket gives the same response to HEAD."""
    lake = connect(proxy.endpoint)
    assert not lake.data.exists("key")
    assert not lake.data.exists("other")
    assert [request.split()[0] for request in proxy.requests] == ["HEAD", "GET", "HEAD"]


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
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    server: embedded.EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.setattr(client_settings, "MAX_RETRIES", 2)
    lake = connect(proxy.endpoint)
    proxy.always = Fault("status", status=status)
    for operation in ("get", "put", "list"):
        with pytest.raises((LakeUnreachableError, LakeWriteError), match=proxy.endpoint) as caught:
            OPERATIONS[operation](lake)
        assert_silent(caught.value, server)


@pytest.mark.parametrize("allowed", [0, 3, 5])
def test_a_server_that_fails_during_a_write_leaves_the_old_table(
    proxy: FaultProxy, connect: Callable[..., Lake], lake: Lake, allowed: int
) -> None:
    table = Table(lake, "table")
    table.overwrite(pa.table({"a": [1, 2, 3, 4]}))
    connect(proxy.endpoint)
    proxy.faults = [Fault("none")] * allowed
    proxy.always = Fault("status")
    (result,) = client('Table(lake, "table").overwrite(pa.table({"a": [5]}))')
    assert result.startswith(("LakeWriteError", "LakeUnreachableError"))
    assert len(proxy.requests) > allowed
    assert table.dataset().to_table()["a"].to_pylist() == [1, 2, 3, 4]
    assert table.overwrite(pa.table({"a": [6]})).version == 1


def test_tls_needs_a_trusted_authority(
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
