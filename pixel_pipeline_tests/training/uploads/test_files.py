"""Proof that a file arrived: by what the store tells, and by reading it back where it tells nothing."""

from collections.abc import Callable, Collection
import hashlib
import os
from pathlib import Path
import re

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
import pytest

from pixel_pipeline.lake.embedded import EmbeddedServer
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectCorruptError
from pixel_pipeline.training.checkpoints.files import (
    MAX_PARTS,
    MIN_PART_BYTES,
    FileDigest,
    LocalFiles,
    part_bytes,
)
from pixel_pipeline_tests.faults import HEAD_END, Fault, FaultProxy


def signed_anew(server: EmbeddedServer, head: bytes, body: bytes, *, dropped: Collection[str] = ()) -> bytes:
    """The head of a request that was changed on its way, as if the client had sent it so."""
    line, *lines = head.removesuffix(HEAD_END).decode().split("\r\n")
    method, path, _ = line.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    gone = ("authorization", "x-amz-date", "x-amz-content-sha256", *dropped)
    kept = {name: value for name, value in headers.items() if name not in gone}
    kept["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    request = AWSRequest(method, f"http://{kept['host']}{path}", headers=kept, data=body)
    S3SigV4Auth(
        Credentials(server.access_key, server.secret_key.get_secret_value()), "s3", "us-east-1"
    ).add_auth(request)
    lines = [line, *(f"{name}: {value}" for name, value in request.headers.items())]
    return "\r\n".join(lines).encode() + HEAD_END


def opaque_etags(head: bytes) -> bytes:
    """For `FaultProxy.rewrite_answer`: ETags that are no MD5, as with encryption by a key of the customer's."""
    return re.sub(rb'(?i)(\r\netag: ")([^"]+)"', rb"\1opaque-\2" + b'"', head)


@pytest.mark.parametrize("size", [0, 1, MIN_PART_BYTES, MIN_PART_BYTES + 1, 2 * MIN_PART_BYTES])
def test_the_etag_is_known_beforehand(lake: Lake, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    digest = FileDigest.of(path)
    assert digest.bytes == size
    assert digest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert lake.checkpoints.put("file", path, part_bytes=part_bytes(size)) == digest.etag
    assert [item.etag for item in lake.checkpoints.list("")] == [digest.etag]


@pytest.mark.parametrize("size", [1, 72 * 10**9, 10**12])
def test_no_file_has_more_parts_than_s3_takes(size: int) -> None:
    assert -(-size // part_bytes(size)) <= MAX_PARTS
    assert MIN_PART_BYTES <= part_bytes(size) <= 5 * 1024**3


@pytest.mark.parametrize("size", [1_000, MIN_PART_BYTES + 1_000])
def test_what_no_checksum_catches_is_noticed(
    lake: Lake,
    server: EmbeddedServer,
    proxy: FaultProxy,
    connect: Callable[..., Lake],
    tmp_path: Path,
    size: int,
) -> None:
    (tmp_path / "model").write_bytes(os.urandom(size))
    files = LocalFiles.scan(tmp_path)
    faulty = connect(proxy.endpoint).checkpoints
    # No checksum goes with it, and the signature is right: as if its bytes had changed in the server.
    proxy.rewrite = lambda head, body: (
        signed_anew(server, head, body, dropped=["x-amz-checksum-sha256"])
        if head.startswith(b"PUT")
        else head
    )
    # Its last part, or its whole.
    proxy.faults = [Fault("corrupt_request", after=500, on=r"^PUT .*/model($|.*partNumber=2)")]
    with pytest.raises(ObjectCorruptError, match="SHA-256"):
        files.upload(faulty, key="a/model", name="model", lies=None)
    assert proxy.faults == []
    assert lake.checkpoints.get("a/model") != (tmp_path / "model").read_bytes()
    (lies,) = lake.checkpoints.list("a")
    files.upload(faulty, key="a/model", name="model", lies=lies)
    assert lake.checkpoints.get("a/model") == (tmp_path / "model").read_bytes()


def test_files_are_read_back_where_etags_say_nothing(
    server: EmbeddedServer, proxy: FaultProxy, connect: Callable[..., Lake], tmp_path: Path
) -> None:
    def without_opaque(head: bytes, body: bytes) -> bytes:
        return signed_anew(server, head.replace(b'"opaque-', b'"'), body) if b'"opaque-' in head else head

    (tmp_path / "model").write_bytes(os.urandom(1_000))
    faulty = connect(proxy.endpoint).checkpoints
    proxy.rewrite_answer, proxy.rewrite = opaque_etags, without_opaque
    LocalFiles.scan(tmp_path).upload(faulty, key="a/model", name="model", lies=None)
    assert [request.split()[0] for request in proxy.requests] == ["PUT", "GET"]
    files = LocalFiles.scan(tmp_path)
    (tmp_path / "model").write_bytes(os.urandom(1_000))
    with pytest.raises(ObjectCorruptError, match="SHA-256"):
        files.upload(faulty, key="a/model", name="model", lies=None)


def test_what_lies_there_is_not_sent_again(
    proxy: FaultProxy, connect: Callable[..., Lake], tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    files = LocalFiles.scan(tmp_path)
    bucket = connect(proxy.endpoint).checkpoints
    files.upload(bucket, key="a/model", name="model", lies=None)
    (lies,) = bucket.list("a")
    files.upload(bucket, key="a/model", name="model", lies=lies)
    assert len([request for request in proxy.requests if request.startswith("PUT")]) == 1
