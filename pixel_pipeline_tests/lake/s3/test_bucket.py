"""Objects of a bucket, against the real embedded server.

Over 300 lines: every operation of a bucket in one place.
"""

from collections.abc import Callable
import io
from pathlib import Path
import re
import threading
import uuid

from hypothesis import example, given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3 import ranged
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import (
    KeyNameError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from pixel_pipeline.lake.s3.ranged import CHUNK_BYTES
from pixel_pipeline_tests.examples import examples

LARGE_BYTES = CHUNK_BYTES + 12_345
SMALL_CHUNK_BYTES = 10_000
RANGED_BYTES = 5 * SMALL_CHUNK_BYTES + 123


@pytest.fixture(scope="module")
def large() -> bytes:
    """Content for several ranged reads, without repetition."""
    return b"".join(number.to_bytes(4, "big") for number in range(LARGE_BYTES // 4 + 1))[:LARGE_BYTES]


def test_put_get_exists_delete(lake: Lake) -> None:
    bucket = lake.data
    etag = bucket.put("a/b.bin", b"\x00bytes\xff")
    assert bucket.get("a/b.bin") == b"\x00bytes\xff"
    assert '"' not in etag
    assert [item.etag for item in bucket.list("a")] == [etag]
    assert bucket.exists("a/b.bin")
    assert not bucket.exists("a")
    bucket.delete(["a/b.bin", "never/there"])
    assert not bucket.exists("a/b.bin")
    with pytest.raises(ObjectNotFoundError, match=rf"s3://{bucket.name}/a/b\.bin"):
        bucket.get("a/b.bin")


@pytest.mark.parametrize(
    "key",
    [
        "with space/a b.json",
        "Zwölf/größe.txt",
        "心理/咨询.jsonl",
        "🙂.txt",
        "a+b=c&d%20.txt",
        "a#b?c.txt",
        ".../..a/.hidden",
        "%2e%2e/%2F/%00",
        "~'\"*(){}[]|<>^`!$,;:@",
        "right\u202eleft",
        # 1,024 bytes with its folder.
        f"{'k' * 249}/{'ä' * 127}/{'k' * 254}/{'k' * 255}",
    ],
    ids=ascii,
)
def test_keys_are_any_text(lake: Lake, key: str) -> None:
    lake.data.put(f"odd/{key}", b"x")
    assert [item.key for item in lake.data.list("odd")] == [f"odd/{key}"]
    assert lake.data.get(f"odd/{key}") == b"x"
    assert lake.data.open(f"odd/{key}").read() == b"x"
    assert lake.data.exists(f"odd/{key}")
    lake.data.delete([f"odd/{key}"])
    assert not lake.data.exists(f"odd/{key}")


USES: dict[str, Callable[[Bucket, str, Path], object]] = {
    "get": lambda bucket, key, _: bucket.get(key),
    "exists": lambda bucket, key, _: bucket.exists(key),
    "put": lambda bucket, key, _: bucket.put(key, b"x"),
    "create": lambda bucket, key, _: bucket.put(key, b"x", create_only=True),
    "list": lambda bucket, key, _: [*bucket.list(key)],
    "delete": lambda bucket, key, _: bucket.delete(["fine", key]),
    "download": lambda bucket, key, folder: bucket.download(key, folder / "copy"),
    "open": lambda bucket, key, _: bucket.open(key),
}


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "empty"),
        ("../../x", "part `.` or `..`"),
        ("a/./b", "part `.` or `..`"),
        ("a\x00b", "control characters"),
        ("a\nb", "control characters"),
        ("a\x7f", "control characters"),
        ("a\uffff", "noncharacters"),
        ("a//b", "empty part"),
        ("/a", "empty part"),
        ("a/", "empty part"),
        ("a\udc80", "not Unicode"),
        ("folder\\name", "backslash"),
        ("0/.\\", "backslash"),
        ("\\", "backslash"),
        ("k/" * 512 + "k", "1,025 bytes"),
        ("ä" * 513, "1,026 bytes"),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_keys_that_stores_read_as_another_key_are_refused(
    lake: Lake, tmp_path: Path, key: str, reason: str
) -> None:
    for name, use in USES.items():
        if name == "list" and key in ("", "a/"):
            # A folder, and all folders.
            continue
        with pytest.raises(KeyNameError, match=re.escape(reason)) as caught:
            use(lake.data, key, tmp_path)
        assert isinstance(caught.value, ValueError)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 200
    assert [*lake.data.list("")] == []
    assert [*tmp_path.iterdir()] == []


def test_keys_that_are_too_long_are_refused(lake: Lake) -> None:
    with pytest.raises(KeyNameError, match="is too long for"):
        lake.data.put("k" * 256, b"x")
    assert [*lake.data.list("")] == []


def test_keys_that_look_alike_are_different_keys(lake: Lake) -> None:
    # Composed and decomposed, Latin and Cyrillic, narrow and wide, with and without a joiner.
    keys = ["caf\u00e9", "cafe\u0301", "data", "d\u0430ta", "\uff44ata", "da\u200bta", "Data", "data "]
    for number, key in enumerate(keys):
        lake.data.put(key, b"%d" % number, create_only=True)
    assert sorted(item.key for item in lake.data.list("")) == sorted(keys)
    for number, key in enumerate(keys):
        assert lake.data.get(key) == b"%d" % number


@examples(20)
@given(key=st.text(max_size=12) | st.text(alphabet="./\\ a%\x00é", max_size=6))
@example(key="0/.\\")
@example(key="a\\b")
def test_any_text_is_a_distinct_key_or_refused(lake: Lake, key: str) -> None:
    folder = uuid.uuid4().hex
    try:
        lake.data.put(f"{folder}/{key}", b"x")
    except KeyNameError:
        assert [*lake.data.list(folder)] == []
        return
    assert [item.key for item in lake.data.list(folder)] == [f"{folder}/{key}"]


def test_empty_objects(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "nothing").touch()
    lake.data.put("bytes", b"")
    lake.data.put("file", tmp_path / "nothing", create_only=True)
    assert [item.size for item in lake.data.list("")] == [0, 0]
    for key in ("bytes", "file"):
        assert lake.data.exists(key)
        assert lake.data.get(key) == b""
        assert lake.data.open(key).read() == b""
        lake.data.download(key, tmp_path / key)
        assert (tmp_path / key).read_bytes() == b""


def test_equal_json_becomes_equal_bytes(lake: Lake) -> None:
    first = lake.data.put_json("one.json", {"b": [1, 2], "a": "ä"})
    assert lake.data.put_json("two.json", {"a": "ä", "b": [1, 2]}) == first
    assert lake.data.get_json("one.json") == {"a": "ä", "b": [1, 2]}


def test_the_error_of_broken_json_names_the_object_but_not_its_content(lake: Lake) -> None:
    lake.data.put("broken.json", b'{"message": "planted words')
    with pytest.raises(PixelError, match=r"broken\.json") as caught:
        lake.data.get_json("broken.json")
    assert "planted" not in str(caught.value)


def test_put_streams_a_file(lake: Lake, large: bytes, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(large)
    lake.data.put("large.bin", path)
    assert lake.data.get("large.bin") == large


def test_create_only_has_one_winner(lake: Lake) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def create(name: str) -> None:
        barrier.wait()
        try:
            lake.data.put("once", name.encode(), create_only=True)
            outcomes.append(name)
        except ObjectExistsError:
            pass

    threads = [threading.Thread(target=create, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert lake.data.get("once") == outcomes[0].encode()
    with pytest.raises(ObjectExistsError, match=f"s3://{lake.data.name}/once"):
        lake.data.put("once", b"late", create_only=True)


def test_a_listing_is_a_folder_sorted_by_key(lake: Lake) -> None:
    for key in ("a/b/2", "a/b/10", "a/bc", "a/b/sub/x", "b/1"):
        lake.data.put(key, key.encode())
    listed = [*lake.data.list("a/b")]
    assert [item.key for item in listed] == ["a/b/10", "a/b/2", "a/b/sub/x"]
    assert [item.size for item in listed] == [6, 5, 9]
    assert all(item.last_modified.tzinfo is not None for item in listed)
    assert [*lake.data.list("a/b/")] == listed
    assert len([*lake.data.list("")]) == 5
    assert [*lake.data.list("nothing")] == []


def test_listing_and_deleting_more_than_a_thousand(lake: Lake) -> None:
    wanted = [f"many/{number:04}" for number in range(1_050)]
    threads = [
        threading.Thread(
            target=lambda part: [lake.data.put(key, b"") for key in part], args=(wanted[start::8],)
        )
        for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item.key for item in lake.data.list("many")] == wanted
    lake.data.delete(iter(wanted))
    assert [*lake.data.list("many")] == []


def test_download_appears_whole_or_not_at_all(lake: Lake, large: bytes, tmp_path: Path) -> None:
    lake.data.put("large.bin", large)
    lake.data.download("large.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == large
    with pytest.raises(ObjectNotFoundError):
        lake.data.download("nothing", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 2 * SMALL_CHUNK_BYTES) | st.just(-1)),
    st.tuples(st.just("set"), st.integers(0, RANGED_BYTES + 1_000)),
    st.tuples(st.just("current"), st.integers(-SMALL_CHUNK_BYTES, SMALL_CHUNK_BYTES)),
    st.tuples(st.just("end"), st.integers(-RANGED_BYTES, 10)),
)


@given(steps=st.lists(STEPS, min_size=1, max_size=8))
def test_ranged_reader_behaves_like_bytes(
    lake: Lake, large: bytes, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(ranged, "CHUNK_BYTES", SMALL_CHUNK_BYTES)
    content = large[:RANGED_BYTES]
    if not lake.data.exists("ranged.bin"):
        lake.data.put("ranged.bin", content)
    oracle = io.BytesIO(content)
    with lake.data.open("ranged.bin") as reader:
        for step, number in steps:
            if step == "read":
                assert reader.read(number) == oracle.read(number)
            else:
                whence = {"set": io.SEEK_SET, "current": io.SEEK_CUR, "end": io.SEEK_END}[step]
                if whence == io.SEEK_CUR:
                    number = max(number, -oracle.tell())
                assert reader.seek(number, whence) == oracle.seek(number, whence)
            assert reader.tell() == oracle.tell()


def test_reader_of_an_object_larger_than_a_chunk(lake: Lake, large: bytes) -> None:
    lake.data.put("large.bin", large)
    with lake.data.open("large.bin") as reader:
        assert reader.read() == large
        assert reader.seek(-9, io.SEEK_END) == LARGE_BYTES - 9
        assert reader.read() == large[-9:]


def test_a_reader_refuses_another_version_than_the_requested_one(lake: Lake) -> None:
    old = lake.data.put("object", b"first")
    new = lake.data.put("object", b"second")
    assert lake.data.open("object", etag=new).read() == b"second"
    with pytest.raises(ObjectChangedError, match=f"s3://{lake.data.name}/object"):
        lake.data.open("object", etag=old)


def test_replacing_an_object_fails_its_reader(lake: Lake, large: bytes) -> None:
    lake.data.put("large.bin", large)
    reader = lake.data.open("large.bin")
    assert reader.read(10) == large[:10]
    lake.data.put("large.bin", bytes(len(large)))
    reader.seek(LARGE_BYTES - 5)
    with pytest.raises(ObjectChangedError):
        reader.read()


def test_readers_of_empty_and_missing_objects(lake: Lake) -> None:
    lake.data.put("empty", b"")
    assert lake.data.open("empty").read() == b""
    with pytest.raises(ObjectNotFoundError):
        lake.data.open("nothing")
