"""Records of JSON Lines, given in chunks of any size."""

import json
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.errors import SettingsError
from pixel_pipeline.lake.loader.json_records import BadRecord, JsonLines, JsonRecordError

SECRET = b"planted words"
MARK = b"\xef\xbb\xbf"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
GARBAGE = st.sampled_from([b"{", b'{"a":}', b"\xff\xfe", b"\x00", b'"open', b"[1,]", b"nul", b"[" * 3000])
BLANK = st.sampled_from([b"", b" ", b"\r", b"\t "])


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def lines(data: bytes, *, size: int = 1 << 20, **options: Any) -> JsonLines:
    return JsonLines(chunked(data, size), uri="s3://b/k", **options)


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[bytes], list[Any], list[int]]:
    """Lines, their values, and the indices of bad lines."""
    texts: list[bytes] = []
    values, bad = [], []
    for index in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["value", "value", "blank", "garbage"]))
        if kind == "value":
            values.append(draw(VALUES))
            texts.append(json.dumps(values[-1], ensure_ascii=draw(st.booleans())).encode(errors="replace"))
            values[-1] = json.loads(texts[-1])
        elif kind == "blank":
            texts.append(draw(BLANK))
        else:
            texts.append(draw(GARBAGE))
            bad.append(index)
    return texts, values, bad


@given(
    document=documents(),
    size=st.integers(1, 40),
    end=st.sampled_from([b"\n", b"\r\n"]),
    mark=st.booleans(),
    closed=st.booleans(),
    limit=st.sampled_from([7_000, 1 << 20]),
)
def test_every_line_is_a_record_a_blank_or_an_error(
    document: tuple[list[bytes], list[Any], list[int]],
    size: int,
    end: bytes,
    mark: bool,
    closed: bool,
    limit: int,
) -> None:
    texts, values, bad = document
    data = MARK * mark + end.join(texts) + end * closed
    found = lines(data, size=size, on_error="collect", max_line_bytes=limit)
    assert [*found] == values
    assert found.skipped == len(bad)
    assert [error.number for error in found.errors] == [index + 1 for index in bad]
    for error, index in zip(found.errors, bad, strict=True):
        line = data[error.offset : error.offset + error.size]
        assert line.removeprefix(MARK).removesuffix(b"\r") == texts[index]
    assert found.next_offset == len(data)


@given(st.lists(VALUES, min_size=1, max_size=8), st.data())
def test_reading_resumes_at_next_offset(values: list[Any], data: st.DataObject) -> None:
    text = b"\n".join(json.dumps(value).encode() for value in values)
    values = [json.loads(json.dumps(value)) for value in values]
    stop = data.draw(st.integers(1, len(values)))
    first = lines(text, size=data.draw(st.integers(1, 30)))
    head = [next(first) for _ in range(stop)]
    start = first.next_offset
    rest = lines(text[start:], size=5, start_offset=start)
    assert [*head, *rest] == values
    assert rest.next_offset == len(text)


def test_values_that_only_the_standard_library_reads_are_read() -> None:
    found = [*lines(b'[NaN, Infinity, -Infinity]\n"\\ud800"\n1e999\n')]
    assert str(found) == str([[float("nan"), float("inf"), -float("inf")], "\ud800", float("inf")])


def test_an_error_contains_the_position_but_not_the_content() -> None:
    data = b'{"a": 1}\n\n{"a": ' + SECRET + b"}\n"
    with pytest.raises(
        JsonRecordError, match=r"s3://b/k: line 3, \d+ bytes from byte 10: not JSON"
    ) as caught:
        [*lines(data)]
    assert SECRET.decode() not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert SECRET.decode() not in repr(caught.value.bad)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'"\xff' + SECRET + b'"', "not UTF-8 at byte 1"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": 1}\x00', "not JSON"),
    ],
    ids=["encoding", "nesting", "nul"],
)
def test_reasons(line: bytes, reason: str) -> None:
    found = lines(line + b"\n1\n", on_error="collect")
    assert [*found] == [1]
    assert reason in found.errors[0].reason


def test_a_line_over_the_limit_is_bad_and_not_stored() -> None:
    long = b'"' + b"x" * 100_000 + b'"'
    found = lines(b"1\n" + long + b"\n2\n" + long, size=1000, on_error="collect", max_line_bytes=5000)
    assert [*found] == [1, 2]
    assert [(bad.number, bad.offset, bad.size) for bad in found.errors] == [
        (2, 2, 100_002),
        (4, 100_007, 100_002),
    ]
    assert "longer" in found.errors[0].reason


def test_a_line_without_end_takes_bounded_memory() -> None:
    block = b"x" * 100_000
    tracemalloc.start()
    try:
        found = JsonLines((block for _ in range(1000)), uri="x", on_error="skip", max_line_bytes=1_000_000)
        assert [*found] == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def test_a_line_at_the_limit_is_good() -> None:
    assert [*lines(b'"abc"\n"abcd"\n', on_error="skip", max_line_bytes=5)] == ["abc"]


def test_skip_counts_and_a_function_is_called() -> None:
    met: list[BadRecord] = []
    found = lines(b"1\nx\n2\ny\n", on_error=met.append)
    assert [*found] == [1, 2]
    assert [bad.number for bad in met] == [2, 4]
    skipping = lines(b"1\nx\n2\n", on_error="skip")
    assert [*skipping] == [1, 2]
    assert (skipping.skipped, skipping.errors) == (1, [])


def test_an_error_of_the_function_ends_the_reading() -> None:
    def refuse(bad: BadRecord) -> None:
        raise LookupError(bad.number)

    with pytest.raises(LookupError, match="2"):
        [*lines(b"1\nx\n", on_error=refuse)]


def test_collected_errors_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixel_pipeline.lake.loader.json_records.MAX_COLLECTED", 3)
    found = lines(b"x\n" * 10, on_error="collect")
    assert [*found] == []
    assert (len(found.errors), found.skipped) == (3, 10)


def test_an_unknown_on_error_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="on_error"):
        lines(b"", on_error="ignore")


def test_many_bad_lines_take_linear_time() -> None:
    # Quadratic time would exceed the test's timeout.
    found = lines(b"x\n" * 30_000, on_error="skip")
    assert [*found] == []
    assert found.skipped == 30_000
