"""What is noted of an object while it is converted, and what a rule may say instead."""

import gzip
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixel_pipeline.conversations.containers.container import PROBE_BYTES
from pixel_pipeline.conversations.containers.known import CONTAINERS
from pixel_pipeline.conversations.convert.detection import SAMPLE_RECORDS
from pixel_pipeline.conversations.convert.lanes import choice as lanes
from pixel_pipeline.conversations.formats.known import FORMATS
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline_tests.conversations.containers.packed.test_archives import zipped
from pixel_pipeline_tests.conversations.converted import Converted, convert, lines, sharegpt

PAIR = {"prompt": "Who?", "response": "Me."}


def detected(data: bytes, **settings: Any) -> dict[str, Any]:
    got = convert(data, **settings)
    noted: dict[str, Any] = orjson.loads(got.ledger.to_row()["detection"])
    assert noted["sample"] == sum(noted["votes"].values()) <= got.ledger.records_in
    assert noted["container"] == got.ledger.container
    assert noted["encoding"] == got.ledger.encoding
    return noted


def test_what_is_noted() -> None:
    records = [sharegpt("a", "b", topic="t")] * 8 + [PAIR, {"odd": 1, "said by Anna, in tears": 2}]
    assert detected(lines(*records, b'{"broken')) == {
        "container": "json_lines",
        "container_why": "10 of the first 11 lines are JSON values of their own",
        "encoding": "utf-8",
        "encoding_why": "ASCII alone",
        "sample": 11,
        "votes": {"pair": 1, "sharegpt": 8, "unreadable": 1, "unrecognised": 1},
        "confidence": 0.727,
        "mixed": True,
        "keys": ["conversations", "odd", "prompt", "response", "topic"],
        "override": {},
    }


def test_few_records_of_another_format_are_no_mixture() -> None:
    assert not detected(lines(*[sharegpt("a", "b")] * 30, PAIR))["mixed"]
    assert detected(lines(*[sharegpt("a", "b")] * 18, PAIR))["mixed"]


def test_the_short_way_and_the_long_one_note_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for many in (5, 500):
        data = lines(*({"x": 1} if n % 7 == 3 else sharegpt(f"q{n}", "a") for n in range(many)))
        short = detected(data)
        with monkeypatch.context() as patch:
            patch.setattr(lanes, "_MOST_MISSES", -1)
            assert detected(data) == short
        assert short["sample"] == many


def test_only_records_that_begin_in_the_head_are_counted() -> None:
    record = sharegpt("a" * 20_000, "b")
    size = len(lines(record))
    noted = detected(lines(*[record] * 40, *[PAIR] * 500))
    assert noted["votes"] == {"sharegpt": -(-PROBE_BYTES // size)}
    assert noted["keys"] == ["conversations"]


def test_members_of_an_archive_are_counted_together() -> None:
    noted = detected(zipped({"a.jsonl": lines(sharegpt("a", "b"), PAIR), "b.json": orjson.dumps([PAIR])}))
    assert noted["container"] == "zip"
    assert noted["votes"] == {"pair": 2, "sharegpt": 1}


def test_of_records_without_offsets_the_first_are_counted() -> None:
    assert detected(parquet(*[PAIR] * 500))["votes"] == {"pair": SAMPLE_RECORDS}
    many = zipped({f"{n}.jsonl": lines(PAIR, PAIR) for n in range(300)})
    assert detected(many)["sample"] == SAMPLE_RECORDS


def test_what_is_no_dataset_is_noted_with_its_reason() -> None:
    assert detected(b"\x89PNG\r\n\x1a\n" + bytes(99))["container_why"].startswith("it begins like a picture")
    assert detected(b"All rights reserved.", key="acquired/LICENSE")["container_why"].startswith(
        "its name is"
    )
    assert detected(b" \n")["container_why"] == "it is blank"


def parquet(*rows: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def refusal(got: Converted) -> str:
    assert got.error_classes == ["override_mismatch"]
    reason: str = got.bad[0]["reason"]
    return reason


def test_a_container_is_what_its_rule_says() -> None:
    # A header that is none to detection.
    data = b"2024-01-01: prompt;response\nWho?;Me.\nYou?;No.\n"
    options = ConversionOptions(container="csv_table", format="pair")
    assert convert(data).ledger.container == "text_document"
    got = convert(b"prompt;response!\nWho?;Me.\n", options=ConversionOptions(container="csv_table"))
    assert got.ledger.container == "csv_table"
    noted = detected(data, options=options)
    assert noted["override"] == {"container": "csv_table", "format": "pair"}
    assert noted["container_why"] == "its rule in families.yaml says so"
    # By its name it is a configuration.
    config = orjson.dumps(sharegpt("a", "b"))
    assert convert(config, "acquired/config.json").ledger.dropped == {"not_a_dataset": 1}
    read = convert(config, "acquired/config.json", options=ConversionOptions(container="json_document"))
    assert read.ledger.records_out == 1
    # Within packings and archives too.
    packed = (gzip.compress(data), zipped({"a": data, "b": data}))
    for outer in packed:
        assert set(convert(outer, options=options).error_classes) == {"override_mismatch"}
        assert convert(outer, options=ConversionOptions(container="csv_table")).ledger.records_in % 2 == 0


@pytest.mark.parametrize(
    ("data", "container", "found"),
    [
        (parquet(PAIR), "csv_table", "it begins like Parquet"),
        (lines(PAIR, PAIR), "parquet_table", "it does not begin like Parquet"),
        (b"prompt,response\nWho?,Me.\n", "json_lines", "no line opens an object or an array"),
        (b"Client: I\nTherapist: You\n", "json_document", "it begins with neither"),
        (lines(PAIR, PAIR), "word_document", "it is not a zip archive"),
    ],
)
def test_a_container_that_cannot_be_is_refused(data: bytes, container: str, found: str) -> None:
    got = convert(data, options=ConversionOptions(container=container))
    assert refusal(got).startswith(f"the rule in families.yaml says container: {container}, but {found}")
    assert got.ledger.records_in == 1
    assert got.bad[0]["position_kind"] == "object"


def test_what_is_no_dataset_by_its_content_stays_none() -> None:
    options = ConversionOptions(container="csv_table", encoding="utf-16")
    assert convert(b"\x89PNG\r\n\x1a\n" + bytes(99), options=options).ledger.dropped == {"not_a_dataset": 1}


RUSSIAN = "Я не сплю"


def test_an_encoding_is_what_its_rule_says() -> None:
    # Too short for its language to be recognised.
    data = lines({"prompt": "?", "response": "!"}).replace(b"?", RUSSIAN.encode("koi8-r"))
    assert convert(data).error_classes == ["bad_encoding"]
    got = convert(data, options=ConversionOptions(encoding="koi8-r"))
    assert got.messages == [[("user", RUSSIAN), ("assistant", "!")]]
    assert got.ledger.encoding == "koi8-r"
    for wide in ("utf-16", "utf-16-le", "utf-32-be"):
        encoded = orjson.dumps([PAIR]).decode().encode(wide)
        assert convert(encoded, options=ConversionOptions(encoding=wide)).ledger.records_out == 1
    # A mark says the same, or more.
    marked = b"\xef\xbb\xbf" + orjson.dumps([PAIR])
    assert convert(marked, options=ConversionOptions(encoding="utf-8")).ledger.records_out == 1


@pytest.mark.parametrize(
    ("data", "encoding", "found"),
    [
        (b"\xef\xbb\xbf" + lines(PAIR), "cp1252", "it begins with the byte order mark of utf-8"),
        (orjson.dumps([PAIR]).decode().encode("utf-16"), "utf-8", "it begins with the byte order mark of utf-16"),
        (lines(PAIR, PAIR), "utf-16", "it contains no zero byte"),
        (lines({"prompt": "é" * 90, "response": "é"}), "ascii", "182 of its first"),
    ],
)  # fmt: skip
def test_an_encoding_that_cannot_be_is_refused(data: bytes, encoding: str, found: str) -> None:
    reason = refusal(convert(data, options=ConversionOptions(encoding=encoding)))
    assert reason.startswith(f"the rule in families.yaml says encoding: {encoding}, but {found}")


def test_a_format_is_what_its_rule_says_for_each_record() -> None:
    thoughtful = {"question": "Why?", "cot": "Hm.", "answer": "So."}
    records = (thoughtful, sharegpt("a", "b"), PAIR, {"sessions": [sharegpt("c", "d"), PAIR]})
    options = ConversionOptions(format="pair")
    for data in (lines(*records), orjson.dumps(records)):
        got = convert(data, options=options)
        assert got.messages == [
            [("user", "Why?"), ("assistant", "So.")],
            [("user", "Who?"), ("assistant", "Me.")],
            [("user", "Who?"), ("assistant", "Me.")],
        ]
        assert got.error_classes == ["override_mismatch"] * 2
        assert got.bad[0]["reason"] == (
            "the rule in families.yaml says format: pair, which does not match the keys conversations"
        )
    # Also where a lane would take the lines.
    many = convert(lines(*[sharegpt("a", "b")] * 50), options=options)
    assert many.error_classes == ["override_mismatch"] * 50
    assert many.ledger.detection.votes == {"unrecognised": 50}


options_of = st.builds(
    ConversionOptions,
    container=st.none() | st.sampled_from([c.name for c in CONTAINERS]),
    encoding=st.none() | st.sampled_from(["utf-8", "utf-16", "cp1252", "gb18030", "utf-32-le", "ascii", "cp932"]),
    format=st.none() | st.sampled_from([f.name for f in FORMATS]),
    one_sided=st.sampled_from(["quarantine", "keep"]),
    reasoning=st.sampled_from(["apart", "think"]),
    longest=st.none() | st.integers(1, 40),
)  # fmt: skip
samples = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=60).map(str.encode),
    st.lists(st.sampled_from([PAIR, sharegpt("a", "b"), sharegpt("a"), {"x": 1}]), max_size=4).map(lambda r: lines(*r)),
    st.lists(st.sampled_from([PAIR, sharegpt("a", "b")]), max_size=4).map(orjson.dumps),
    st.just(parquet(PAIR)),
    st.sampled_from(["prompt,response\n", "Client: a\nTherapist: b\n"]).map(str.encode),
)  # fmt: skip


@given(samples, options_of)
def test_whatever_a_rule_says_all_is_accounted_for(data: bytes, options: ConversionOptions) -> None:
    detected(data, options=options)
