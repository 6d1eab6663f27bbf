"""Elements of JSON arrays, given in chunks of any size, compared with the standard library."""

from collections import deque
from collections.abc import Iterator
import json
import tracemalloc
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.lake.loader import json_elements as module
from pixel_pipeline.lake.loader.json_elements import JsonStructureError, json_elements
from pixel_pipeline.lake.loader.json_records import JsonElements, JsonRecordError
from pixel_pipeline_tests.lake.loader.test_json_records import chunked

TEXT = st.text() | st.text(alphabet='"\\[]{},:\n é🙂')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def written(draw: st.DrawFn, value: st.SearchStrategy[Any]) -> tuple[Any, bytes]:
    """A value and one of the ways to write it."""
    drawn = draw(value)
    text = json.dumps(
        drawn,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 2, "\t"])),
        separators=draw(st.sampled_from([(",", ":"), (" , ", " : ")])),
    ).encode(errors="replace")
    space = draw(st.sampled_from([b"", b" ", b"\r\n", b"\n\n"]))
    return json.loads(text), space + text + space


def elements(data: bytes, *, size: int = 1 << 20, **options: Any) -> list[Any]:
    return [*JsonElements(chunked(data, size), uri="s3://b/k", **options)]


@given(written(st.lists(VALUES, max_size=6)), st.integers(1, 50))
@example(([], b"[]"), 1)
@example((["\\", '\\"', "a\\\\"], b'["\\\\", "\\\\\\"", "a\\\\\\\\"]'), 1)
def test_elements_are_those_of_the_array(document: tuple[list[Any], bytes], size: int) -> None:
    value, text = document
    assert elements(text, size=size) == value
    assert elements(b"\xef\xbb\xbf" + text, size=size) == value
    for offset, data, length in json_elements(chunked(text, size)):
        assert text[offset : offset + length] == data


@given(
    written(st.dictionaries(TEXT, VALUES, max_size=4)),
    written(st.lists(VALUES, max_size=4)),
    st.integers(1, 50),
    st.data(),
)
def test_elements_are_those_of_the_member(
    members: tuple[dict[str, Any], bytes], array: tuple[list[Any], bytes], size: int, data: st.DataObject
) -> None:
    others = {name: value for name, value in members[0].items() if name != "conversations"}
    parts = [f"{json.dumps(name)} : {json.dumps(value)}".encode() for name, value in others.items()]
    parts.insert(data.draw(st.integers(0, len(parts))), b' "conversation\\u0073"\n:' + array[1])
    text = b"{" + b",".join(parts) + b"}\n"
    assert elements(text, size=size, field="conversations") == array[0]


@given(written(st.lists(VALUES, min_size=1, max_size=4)), st.integers(1, 30), st.data())
def test_a_damaged_array_is_never_read_as_a_whole_one(
    document: tuple[list[Any], bytes], size: int, data: st.DataObject
) -> None:
    """With a byte removed, changed or inserted: the standard library's elements, or an error."""
    text = document[1]
    place = data.draw(st.integers(0, len(text) - 1))
    piece = data.draw(st.sampled_from([b"", b",", b"]", b"[", b"}", b"{", b'"', b"\\", b"x", b"\x00"]))
    damaged = text[:place] + piece + text[place + data.draw(st.integers(0, 1)) :]
    if data.draw(st.booleans()):
        damaged = text[:place]
    try:
        expected = json.loads(damaged.decode(errors="strict"))
    except ValueError:
        expected = None
    try:
        found = elements(damaged, size=size)
    except (JsonStructureError, JsonRecordError):
        assert not isinstance(expected, list)
    else:
        assert found == expected


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "the end at byte 0"),
        (b"  \n", "the end"),
        (b"[1, 2", "the end at byte 5, after 1 elements"),
        (b'[1, "open]', "the end"),
        (b"[1, 2,]", "a comma without an element at byte 6"),
        (b"[,1]", "a comma without an element"),
        (b"[1,,2]", "a comma without an element"),
        (b"[1] x", "something behind the end at byte 4"),
        (b"[1][2]", "something behind the end"),
        (b"[1}", "another closing bracket"),
        (b'"text"', "no array"),
        (b'{"a": []}', "no such member"),
        (b'{"conversations": 5}', "no array in the member"),
        (b'{"conversations": {"a": [1]}}', "no array in the member"),
        (b'{"conversations": [1], "conversations": [2]}', "a second such member"),
        (b'{"conversations": [1]]', "another closing bracket"),
        (b'{"conversations": [1]', "the end"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value.split(" at ")[0].replace(" ", "-"),
)
def test_text_that_is_not_an_array_is_refused(text: bytes, what: str, size: int) -> None:
    with pytest.raises(JsonStructureError, match=f"s3://b/k is not the JSON expected: {what}"):
        elements(text, size=size, field="conversations")


def test_elements_before_the_damage_are_yielded() -> None:
    found = JsonElements([b'[{"a": 1}, 2, "cut'], uri="x")
    assert [next(found), next(found)] == [{"a": 1}, 2]
    with pytest.raises(JsonStructureError, match="after 2 elements"):
        next(found)


def test_an_object_needs_a_field() -> None:
    with pytest.raises(JsonStructureError, match="no array at byte 0"):
        [*json_elements([b'{"conversations": []}'])]


def test_bad_elements_are_raised_or_collected() -> None:
    text = b'[1, {"a": planted}, 2, NaN, "\xff", {"a" 1}]'
    with pytest.raises(
        JsonRecordError, match=r"s3://b/k: element 2, 14 bytes from byte 4: not JSON"
    ) as caught:
        elements(text)
    assert "planted" not in str(caught.value)
    found = JsonElements([text], uri="x", on_error="collect")
    assert str([*found]) == "[1, 2, nan]"
    assert [bad.number for bad in found.errors] == [2, 5, 6]
    assert found.skipped == 3


def test_an_element_over_the_limit_is_bad_and_not_stored() -> None:
    text = b'[1, "' + b"x" * 100_000 + b'", 2]'
    found = JsonElements(chunked(text, 1000), uri="x", on_error="collect", max_element_bytes=5000)
    assert [*found] == [1, 2]
    assert (found.errors[0].number, found.errors[0].size) == (2, 100_003)


@pytest.mark.parametrize("start", [b'["', b'{"notes": "'], ids=["element", "member"])
def test_text_without_end_takes_bounded_memory(start: bytes) -> None:
    def chunks() -> Iterator[bytes]:
        yield start
        for _ in range(1000):
            yield b"x" * 100_000

    tracemalloc.start()
    try:
        with pytest.raises(JsonStructureError, match="the end"):
            deque(json_elements(chunks(), field="conversations", max_element_bytes=1_000_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def test_a_huge_member_before_the_array_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_KEY_BYTES", 100)
    text = (
        b'{"notes": "'
        + b'[,\\"' * 10_000
        + b'", "more": [[1], {"conversations": [9]}], "conversations": [1, 2]}'
    )
    assert elements(text, size=999, field="conversations") == [1, 2]


def test_elements_larger_than_a_block() -> None:
    value = [{"text": 'a "quoted", [bracketed] \\ text' * 20_000}, [1], {"b": "\\" * 300_001}]
    assert elements(json.dumps(value).encode(), size=100_000) == value
