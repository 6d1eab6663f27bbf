"""parquet_table, gzip, text_document, and what is no dataset."""

from datetime import datetime
from decimal import Decimal
import gzip
import io

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixel_pipeline.conversations.containers.packed import unpacking
from pixel_pipeline_tests.conversations.containers.packed.test_archives import zipped
from pixel_pipeline_tests.conversations.converted import convert, lines, sharegpt

GOOD = sharegpt("hello", "hi")


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_parquet_rows() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    table = pa.table({
        "messages": pa.array([turns, None, [*turns, None], turns] * 400),
        "n": range(1600),
        "when": pa.array([datetime(2020, 1, 1)] * 1600),
        "price": pa.array([Decimal("1.5")] * 1600),
        "picture": pa.array([b"\xff\x00"] * 1600),
    })  # fmt: skip
    got = convert(parquet(table))
    assert (got.ledger.container, got.ledger.encoding) == ("parquet_table", "binary")
    assert (got.ledger.records_out, got.ledger.quarantined) == (800, 800)
    assert [row["source"]["position"] for row in got.rows][:3] == [0, 3, 4]
    assert orjson.loads(got.rows[1]["metadata"]) == {
        "n": 3, "when": "2020-01-01T00:00:00", "price": "1.5", "picture": {"bytes": 2},
    }  # fmt: skip
    assert set(got.error_classes) == {"unrecognised_schema", "bad_turn"}
    assert orjson.loads(got.bad[0]["raw_bytes"])["n"] == 1
    assert convert(gzip.compress(parquet(table))).ledger.records_out == 800


def test_parquet_with_a_value_that_cannot_be_shown() -> None:
    bad = pa.array([b"x", b"\xff", b"z"]).view(pa.string())
    got = convert(parquet(pa.table({"prompt": ["a", "b", "c"], "response": bad})))
    assert (got.ledger.records_out, got.error_classes, got.bad[0]["position"]) == (2, ["unreadable_value"], 1)


def test_damaged_parquet_keeps_the_rows_before() -> None:
    table = pa.table({"prompt": [f"question {n}" for n in range(3000)], "response": ["b"] * 3000})
    data = bytearray(parquet(table, row_group_size=1000, compression="zstd", use_dictionary=False))
    assert convert(bytes(data[:-20])).ledger.quarantined == 1
    at = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(2).column(0).data_page_offset
    data[at : at + 200] = b"\xff" * 200
    got = convert(bytes(data))
    assert (got.ledger.records_out, got.error_classes) == (2000, ["corrupt_parquet"])
    assert got.bad[0]["position_kind"] == "object"


def test_gzip_is_transparent() -> None:
    data = lines(*[GOOD] * 5)
    packed = gzip.compress(data[:100]) + gzip.compress(data[100:]) + b"\0" * 20
    got = convert(packed, "gdrive/raw/F/x.jsonl.gz")
    plain = convert(data, "gdrive/raw/F/x.jsonl.gz")
    assert (got.ledger.container, got.ledger.records_out) == ("json_lines", 5)
    assert got.conversations.equals(plain.conversations)


@pytest.mark.parametrize("size", [5, 40_000])
def test_damaged_gzip_keeps_the_records_before(size: int) -> None:
    data = lines(*[sharegpt(f"question {n}", f"answer {n * n}") for n in range(size)])
    packed = gzip.compress(data)
    cut = convert(packed[: len(packed) * 3 // 4])
    assert cut.error_classes == ["corrupt_gzip"]
    if size > 10:
        assert 0.6 * size < cut.ledger.records_out < size
    wrong = convert(packed[:-8] + b"\0" * 8)
    assert wrong.error_classes[-1] == "corrupt_gzip"
    assert convert(packed + b"garbage").error_classes[-1] == "corrupt_gzip"


def test_damaged_gzip_keeps_the_rows_before_in_a_table() -> None:
    rows = [f"question {n},answer {n * n}" for n in range(40_000)]
    packed = gzip.compress("\n".join(["prompt,response", *rows]).encode())
    cut = convert(packed[: len(packed) * 3 // 4], "gdrive/raw/F/x.csv.gz")
    assert cut.error_classes == ["corrupt_gzip"]
    assert 0.6 * len(rows) < cut.ledger.records_out < len(rows)


def test_a_gzip_bomb_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_BOMB_FLOOR", 1 << 20)
    got = convert(gzip.compress(lines(*[GOOD] * 10) + b"\n" * (8 << 20)))
    assert (got.ledger.records_out, got.error_classes) == (10, ["gzip_bomb"])


def test_a_text_document_is_one_record() -> None:
    text = "Session\nTherapist: Grüß Gott\nClient: Hello\n"
    for encoding, expected in (
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("cp1252", "utf-8"),
    ):
        got = convert(text.encode(encoding), "gdrive/raw/F/notes")
        assert got.messages == [[("assistant", "Grüß Gott"), ("user", "Hello")]]
        assert got.rows[0]["source"]["position_kind"] == "object"
        assert (got.ledger.container, got.ledger.encoding) == ("text_document", expected)
    got = convert(b"some prose about nothing", "gdrive/raw/F/x.yml")
    assert got.error_classes == ["unrecognised_schema"]
    assert (got.bad[0]["raw_bytes"], got.bad[0]["position_kind"]) == (None, "object")
    assert convert("来访者：你好\n".encode() * 5 + b"\xff\xfe\xfd").error_classes == ["undecodable"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.json", b""),
        ("blank.jsonl", b" \r\n\n"),
        ("README.md", b"# Data\nTherapist: a\nClient: b\n"),
        ("LICENSE", b"MIT"),
        ("license.txt", b"MIT"),
        ("config.json", b'{"a": 1}'),
        (".gitattributes", b"*.json filter=lfs"),
        (".pre-commit-config.yaml", b"repos:\n- repo: x\n"),
        ("explore.ipynb", b'{"cells": []}'),
        ("load.py", b"import json\n"),
        ("x.json", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
        ("x.bin", bytes(range(256)) * 10),
        ("x.txt", b"\x00" * 100),
    ],
)
def test_what_is_no_dataset_is_dropped_and_counted(name: str, data: bytes) -> None:
    got = convert(data, f"gdrive/raw/F/{name}")
    assert (got.ledger.records_in, got.ledger.dropped, got.ledger.container) == (
        1,
        {"not_a_dataset": 1},
        "other",
    )


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), mtime=0),
        b"BZh91AY\x00\x01\x02" * 20,
        b"PAR1" + bytes(range(7)),
        zipped({"[Content_Types].xml": b"<Types/>", "ppt/presentation.xml": b"<p/>"}),
    ],
    # Spelled out: a gzip header holds the time, and two test processes must agree on the tests' names.
    ids=["gzip-in-gzip-in-gzip", "bzip2", "parquet-cut-off", "slides"],
)
def test_what_may_be_data_but_is_not_read_here_is_quarantined(data: bytes) -> None:
    got = convert(data)
    assert (got.ledger.records_in, got.error_classes) == (1, ["unsupported_container"])


def test_a_bom_of_text_that_starts_like_a_picture() -> None:
    assert convert(b"BM therapist\nTherapist: a\nClient: b\n").ledger.records_out == 1


@pytest.mark.parametrize("name", ["config.json", "changes_in_my_life.txt"])
def test_data_under_a_name_of_something_else_is_data(name: str) -> None:
    data = orjson.dumps([GOOD]) if name.endswith("json") else b"Therapist: a\nClient: b\n"
    assert convert(data, f"gdrive/raw/F/{name}").ledger.records_out == 1
