"""Decompression of data given in chunks of any size."""

import bz2
import gzip
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
import pyarrow as pa
import pytest

from pixel_pipeline.lake.loader.compression import MAGIC_BYTES, CompressedDataError, decompressed
from pixel_pipeline_tests.lake.loader.test_json_records import chunked


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


PACKERS = {"gzip": gzip.compress, "zstd": zstd, "bz2": bz2.compress, "plain": bytes}
packer = pytest.mark.parametrize("codec", ["gzip", "zstd", "bz2"])


def unpacked(data: bytes, *, size: int = 1 << 16) -> bytes:
    return b"".join(decompressed(chunked(data, size), uri="s3://b/k"))


@given(
    parts=st.lists(st.binary(max_size=50), max_size=4),
    codec=st.sampled_from([*PACKERS]),
    size=st.integers(1, 30),
)
def test_any_number_of_members_in_chunks_of_any_size(parts: list[bytes], codec: str, size: int) -> None:
    content = b"".join(parts)
    if codec == "plain" and content[:4].startswith((b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd")):
        return
    assert unpacked(b"".join(map(PACKERS[codec], parts)), size=size) == content


@pytest.mark.parametrize("data", [b"", b"\x1f", b"\x1f\x8b", b"\x28\xb5\x2f"], ids=["none", "1", "2", "3"])
def test_data_shorter_than_a_magic_number_are_plain(data: bytes) -> None:
    assert unpacked(data, size=1) == data


def test_zeros_after_gzip_are_padding() -> None:
    assert unpacked(gzip.compress(b"a") + bytes(70_000) + gzip.compress(b"b") + bytes(3), size=999) == b"ab"


@packer
def test_every_truncation_raises_an_error(codec: str) -> None:
    whole = PACKERS[codec](b"one") + PACKERS[codec](b"two" * 50)
    first = len(PACKERS[codec](b"one"))
    for end in range(MAGIC_BYTES, len(whole)):
        if end == first:
            continue
        with pytest.raises(CompressedDataError, match=rf"{codec} data of s3://b/k end early"):
            unpacked(whole[:end])


@packer
def test_damage_raises_an_error_after_the_content_before_it(codec: str) -> None:
    content = bytes(range(256)) * 20_000
    whole = bytearray(PACKERS[codec](b"x" * 2_000_000) + PACKERS[codec](content))
    whole[-200] ^= 0xFF
    size = 0
    with pytest.raises(CompressedDataError, match=rf"{codec} data of s3://b/k (are damaged|end early)"):  # noqa: PT012
        for block in decompressed(chunked(bytes(whole), 1 << 16), uri="s3://b/k"):
            size += len(block)
    assert size >= 2_000_000


@packer
def test_garbage_after_the_data_raises_an_error(codec: str) -> None:
    with pytest.raises(CompressedDataError, match="are damaged"):
        unpacked(PACKERS[codec](b"content") + b"something else")


@packer
def test_errors_of_the_source_pass_through(codec: str) -> None:
    def source() -> object:
        yield PACKERS[codec](b"content" * 1000)[:30]
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        b"".join(decompressed(source(), uri="x"))  # type: ignore[arg-type]


@packer
def test_a_bomb_unpacks_in_bounded_memory(codec: str) -> None:
    bomb = PACKERS[codec](bytes(200_000_000))
    tracemalloc.start()
    try:
        size = sum(map(len, decompressed([bomb], uri="x")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 200_000_000
    assert peak < 10_000_000
