"""zip and tar: members are objects of their own, and nothing in an archive can do harm."""

import bz2
from collections.abc import Callable
from contextlib import nullcontext
import gzip
import io
import tarfile
import zipfile

import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.conversations.containers.packed import archives, unpacking
from pixel_pipeline.conversations.convert import conversion
from pixel_pipeline.conversations.model.identity import record_id
from pixel_pipeline_tests.conversations.converted import convert, lines, sharegpt

KEY = "gdrive/raw/Folder/file"
GOOD = sharegpt("hello", "hi")
TALK = b"Therapist: a\nClient: b\n"
FILES = {
    "data/x.jsonl": lines(GOOD, {"no": 1}, GOOD),
    "data/talk.txt": TALK,
    "README.md": b"# about",
    "../../etc/y.json": orjson.dumps([GOOD]),
    "page.jpg": b"\xff\xd8\xff" + bytes(range(256)),
}


def zipped(files: dict[str, bytes], **options: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


@pytest.mark.parametrize("pack", [zipped, tarred, lambda files: gzip.compress(tarred(files)), lambda files: zstd(tarred(files)),
                                  lambda files: zipped({"in/side.tar.gz": gzip.compress(tarred(files))}),
                                  lambda files: gzip.compress(zipped(files))],
                         ids=["zip", "tar", "tar.gz", "tar.zst", "tar.gz-in-zip", "zip.gz"])  # fmt: skip
def test_each_member_is_an_object_of_its_own(pack: Callable[[dict[str, bytes]], bytes]) -> None:
    got = convert(pack(FILES))
    assert got.ledger.container in ("zip", "tar")
    assert (got.ledger.records_in, got.ledger.records_out, dict(got.ledger.dropped)) == (
        7,
        4,
        {"not_a_dataset": 2},
    )
    prefix = "in/side.tar.gz/" if got.rows[0]["source"]["member"].startswith("in/") else ""
    assert [row["source"]["member"].removeprefix(prefix) for row in got.rows] == [
        "data/x.jsonl", "data/x.jsonl", "data/talk.txt", "../../etc/y.json",
    ]  # fmt: skip
    assert [row["source"]["position_kind"] for row in got.rows] == ["byte", "byte", "object", "byte"]
    assert got.rows[0]["id"] == record_id(key=KEY, position=0, member=f"{prefix}data/x.jsonl")
    assert (got.bad[0]["member"], got.bad[0]["raw_bytes"]) == (f"{prefix}data/x.jsonl", b'{"no":1}')


@pytest.mark.parametrize("pack", [gzip.compress, zstd, bz2.compress])
def test_packed_lines(pack: Callable[[bytes], bytes]) -> None:
    data = lines(*[GOOD] * 50)
    got = convert(pack(data[:100]) + pack(data[100:]), "gdrive/raw/F/x.jsonl.zst")
    assert (got.ledger.container, got.ledger.records_out) == ("json_lines", 50)
    cut = convert(pack(data)[:-9], "gdrive/raw/F/x.jsonl.zst")
    assert cut.error_classes[-1].startswith("corrupt_")


def test_a_zip_bomb_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_BOMB_FLOOR", 1 << 20)
    got = convert(zipped({"a.jsonl": lines(GOOD, GOOD), "b.jsonl": lines(GOOD, GOOD) + b"\n" * (8 << 20)}))
    assert got.ledger.records_out >= 2
    assert set(got.error_classes) == {"zip_bomb"}
    packed = zstd(lines(GOOD, GOOD) + b"\n" * (8 << 20))
    assert convert(packed).error_classes == ["zstd_bomb"]


def test_too_many_members_and_too_many_archives_within_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = zipped({"x.txt": TALK})
    assert convert(zipped({"a.zip": inner})).ledger.records_out == 1
    assert convert(zipped({"a.zip": zipped({"b.zip": inner})})).error_classes == ["nesting_too_deep"]
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert convert(zipped(FILES)).error_classes == ["too_many_members"]
    got = convert(tarred(FILES))
    assert (got.error_classes[-1], got.ledger.records_out) == ("too_many_members", 3)


def test_links_are_dropped_and_encrypted_members_quarantined() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"m{kind!r}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    got = convert(sink.getvalue())
    assert (got.ledger.records_in, got.ledger.dropped) == (3, {"link": 3})
    data = bytearray(zipped({"a.txt": TALK, "b.txt": TALK}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    got = convert(bytes(data))
    assert (got.error_classes, got.ledger.records_out) == (["encrypted"], 1)
    assert (got.bad[0]["member"], got.bad[0]["raw_size"]) == ("a.txt", len(TALK))


def test_members_with_equal_names_are_distinguished() -> None:
    sink = io.BytesIO()
    # A name may also look like one that a number was added to.
    names = ["a.txt", "a.txt~2", "a.txt", "a.txt"]
    with zipfile.ZipFile(sink, "w") as archive:
        for name in names:
            with (
                pytest.warns(UserWarning, match="Duplicate") if name in archive.namelist() else nullcontext()
            ):
                archive.writestr(name, TALK)
    got = convert(sink.getvalue())
    assert len({row["source"]["member"] for row in got.rows}) == got.ledger.records_out == 4


def test_a_member_may_have_no_name() -> None:
    assert convert(zipped({"": TALK, "a.txt": TALK})).ledger.records_out == 2


def test_a_damaged_member_does_not_end_the_others() -> None:
    data = bytearray(zipped({"a.txt": TALK * 50, "b.txt": TALK}))
    data[60:64] = b"\xff" * 4
    got = convert(bytes(data))
    assert (got.ledger.records_out, got.error_classes, got.bad[0]["member"]) == (1, ["corrupt_zip"], "a.txt")
    whole = tarred({"a.txt": TALK, "b.txt": TALK})
    cut = convert(whole[:1030])
    assert (cut.ledger.records_out, len(cut.bad)) == (1, 1)
    assert convert(b"PK\x03\x04" + bytes(90)).error_classes == ["corrupt_zip"]


def test_batches_end_within_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "BATCH_RECORDS", 2)
    assert convert(zipped({f"{n}.txt": TALK for n in range(5)})).ledger.records_out == 5
