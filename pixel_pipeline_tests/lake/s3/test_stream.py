"""Streams of objects: the right bytes in order, or a clear error, whatever happens to the connection."""

from collections.abc import Callable, Iterator
from dataclasses import replace
import hashlib
import re
import threading

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.lake import embedded
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.loader.catalogue import BucketCatalogue
from pixel_pipeline.lake.s3 import client, stream
from pixel_pipeline.lake.s3.bucket import Bucket, ObjectInfo
from pixel_pipeline.lake.s3.errors import (
    LakeAccessError,
    LakeUnreachableError,
    ObjectChangedError,
    ObjectCorruptError,
    ObjectNotFoundError,
)
from pixel_pipeline.lake.s3.objects import is_md5
from pixel_pipeline.lake.s3.stream import ObjectStream
from pixel_pipeline.settings import Settings
from pixel_pipeline_tests.examples import examples
from pixel_pipeline_tests.faults import Fault, FaultProxy

CHUNK = 50_000
CONTENT = b"".join(number.to_bytes(4, "big") for number in range(100_000))
GET = r"^GET .*/object$"


@pytest.fixture
def proxy(lake: Lake, settings: Settings) -> Iterator[FaultProxy]:
    server = embedded.status(settings.home)
    assert server is not None
    with FaultProxy(server.ports["s3.port"]) as running:
        yield running


@pytest.fixture
def bucket(lake: Lake, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The data bucket with `object` in it, through the proxy."""
    monkeypatch.setattr(stream, "BACKOFF_SECONDS", 0.01)
    lake.data.put("object", CONTENT)
    return Bucket(name=lake.data.name, target=replace(lake.data.target, endpoint=proxy.endpoint))


@pytest.fixture
def info(lake: Lake) -> Callable[..., ObjectInfo]:
    """The current version of an object."""

    def look(key: str = "object") -> ObjectInfo:
        found = BucketCatalogue(lake).find(key)
        assert found is not None
        assert found.info is not None
        return found.info

    return look


def read(bucket: Bucket, info: ObjectInfo, **options: object) -> bytes:
    return b"".join(ObjectStream(bucket, info, **{"chunk_bytes": CHUNK, **options}))  # type: ignore[arg-type]


@examples(10)
@given(
    size=st.integers(0, 5 * CHUNK),
    start=st.integers(0, 5 * CHUNK),
    chunk=st.sampled_from([CHUNK // 3, CHUNK, 5 * CHUNK]),
    ahead=st.integers(1, 5),
)
def test_the_bytes_in_order(
    lake: Lake, info: Callable[..., ObjectInfo], size: int, start: int, chunk: int, ahead: int
) -> None:
    lake.data.put("any", CONTENT[:size])
    found = read(lake.data, info("any"), start=start, chunk_bytes=chunk, ahead=ahead)
    assert found == CONTENT[start:size]


@pytest.mark.parametrize("kind", ["reset", "truncate"])
@pytest.mark.parametrize("after", [0, 1, 60, 400, 20_000, CHUNK, CHUNK + 300])
def test_a_broken_connection_is_resumed(
    bucket: Bucket, info: Callable[..., ObjectInfo], proxy: FaultProxy, kind: str, after: int
) -> None:
    proxy.faults = [Fault(kind, after=after, on=GET)] * 3  # type: ignore[arg-type]
    assert read(bucket, info()) == CONTENT


def test_reading_resumes_at_the_byte_reached(
    bucket: Bucket, info: Callable[..., ObjectInfo], proxy: FaultProxy
) -> None:
    ranges: list[tuple[int, int]] = []

    def note(head: bytes, body: bytes) -> bytes:
        if match := re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)", head):
            ranges.append((int(match[1]), int(match[2])))
        return head

    proxy.rewrite = note
    proxy.faults = [Fault("reset", after=30_000, on=GET)]
    assert read(bucket, info(), chunk_bytes=len(CONTENT)) == CONTENT
    (start, end), (again, again_end) = ranges
    assert (start, end) == (0, again_end)
    # Some bytes are in transit when the connection breaks.
    assert 0 < again < 30_000


def test_bursts_of_503_pass(bucket: Bucket, info: Callable[..., ObjectInfo], proxy: FaultProxy) -> None:
    proxy.faults = [Fault("status", code="SlowDown", on=GET)] * 5
    assert read(bucket, info()) == CONTENT


def test_a_dead_endpoint_raises_an_error(
    bucket: Bucket, info: Callable[..., ObjectInfo], proxy: FaultProxy
) -> None:
    proxy.always = Fault("status", status=403, code="ExpiredToken", on=GET)
    with pytest.raises(LakeAccessError, match="expired"):
        read(bucket, info())


def test_an_object_replaced_during_the_read_raises_an_error(
    bucket: Bucket, info: Callable[..., ObjectInfo]
) -> None:
    chunks = iter(ObjectStream(bucket, info(), chunk_bytes=CHUNK, ahead=1))
    assert next(chunks) == CONTENT[:CHUNK]
    bucket.put("object", CONTENT[::-1])
    with pytest.raises(ObjectChangedError, match=f"s3://{bucket.name}/object"):
        b"".join(chunks)


def test_an_object_deleted_during_the_read_raises_an_error(
    bucket: Bucket, info: Callable[..., ObjectInfo]
) -> None:
    chunks = iter(ObjectStream(bucket, info(), chunk_bytes=CHUNK, ahead=1))
    next(chunks)
    bucket.delete(["object"])
    with pytest.raises((ObjectChangedError, ObjectNotFoundError)):
        b"".join(chunks)


def test_a_corrupt_byte_raises_an_error_at_the_end(
    bucket: Bucket, info: Callable[..., ObjectInfo], proxy: FaultProxy
) -> None:
    proxy.faults = [Fault("none", on=GET), Fault("corrupt", after=77, on=GET)]
    received = bytearray()
    with pytest.raises(ObjectCorruptError, match=f"s3://{bucket.name}/object"):  # noqa: PT012
        for chunk in ObjectStream(bucket, info(), chunk_bytes=CHUNK):
            received += chunk
    assert len(received) == len(CONTENT)


def test_bytes_can_go_unverified(bucket: Bucket, info: Callable[..., ObjectInfo], proxy: FaultProxy) -> None:
    proxy.faults = [Fault("corrupt", after=77, on=GET)]
    assert read(bucket, info(), verify=False) != CONTENT


def test_streams_over_tls_are_not_compared_by_default(
    bucket: Bucket, info: Callable[..., ObjectInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    secure = Bucket(name=bucket.name, target=replace(bucket.target, endpoint="https://127.0.0.1:1"))
    wrong = replace(info(), etag="0" * 32)
    monkeypatch.setattr(ObjectStream, "_fetch", lambda self, start: memoryview(b"x"))
    small = replace(wrong, size=1)
    assert [*ObjectStream(secure, small)] == [b"x"]
    monkeypatch.setattr(Bucket, "has_md5_etags", lambda self: True)
    with pytest.raises(ObjectCorruptError):
        [*ObjectStream(secure, small, verify=True)]


def test_an_etag_that_is_not_an_md5_is_no_mismatch(
    lake: Lake, info: Callable[..., ObjectInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.data.put("object", CONTENT)
    honest = info()
    foreign = replace(honest, etag=hashlib.md5(b"encrypted", usedforsecurity=False).hexdigest())
    fetch = ObjectStream._fetch
    monkeypatch.setattr(
        ObjectStream,
        "_fetch",
        lambda self, start: fetch(ObjectStream(lake.data, honest, chunk_bytes=CHUNK), start),
    )
    monkeypatch.setattr(Bucket, "has_md5_etags", lambda self: False)
    assert read(lake.data, foreign) == CONTENT
    monkeypatch.setattr(Bucket, "has_md5_etags", lambda self: True)
    with pytest.raises(ObjectCorruptError):
        read(lake.data, foreign)


def test_multipart_etags_are_no_md5() -> None:
    assert is_md5("0123456789abcdef0123456789abcdef")
    assert not is_md5("0123456789abcdef0123456789abcdef-3")
    assert not is_md5("")


def test_memory_is_bounded_by_the_chunks_fetched_ahead(
    lake: Lake, info: Callable[..., ObjectInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.data.put("object", CONTENT)
    fetched: list[int] = []
    fetch = ObjectStream._fetch

    def counted(self: ObjectStream, start: int) -> memoryview:
        fetched.append(start)
        return fetch(self, start)

    monkeypatch.setattr(ObjectStream, "_fetch", counted)
    chunks = iter(ObjectStream(lake.data, info(), chunk_bytes=1000, ahead=3))
    for consumed in range(1, 20):
        next(chunks)
        assert len(fetched) <= consumed + 3


def test_an_abandoned_stream_leaves_no_threads(lake: Lake, info: Callable[..., ObjectInfo]) -> None:
    lake.data.put("object", CONTENT)
    before = {*threading.enumerate()}
    chunks = iter(ObjectStream(lake.data, info(), chunk_bytes=1000))
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    for thread in {*threading.enumerate()} - before:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_an_endpoint_that_disappears_raises_an_error(lake: Lake, info: Callable[..., ObjectInfo]) -> None:
    lake.data.put("object", CONTENT)
    nowhere = Bucket(name=lake.data.name, target=replace(lake.data.target, endpoint="http://127.0.0.1:9"))
    with pytest.raises(LakeUnreachableError, match="does not answer"):
        read(nowhere, info())


def test_a_silent_connection_is_replaced(
    proxy: FaultProxy, lake: Lake, info: Callable[..., ObjectInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STALL_SECONDS", 1)
    lake.data.put("object", CONTENT)
    impatient = Bucket(name=lake.data.name, target=replace(lake.data.target, endpoint=proxy.endpoint))
    proxy.faults = [Fault("stall", after=20_000, on=GET), Fault("stall", after=900, on=GET)]
    assert read(impatient, info()) == CONTENT
    assert proxy.faults == []
