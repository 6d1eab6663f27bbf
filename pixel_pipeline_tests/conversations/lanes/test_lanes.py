"""The short way gives what the long way gives, to the letter."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import orjson
import pytest

from pixel_pipeline.conversations import lanes
from pixel_pipeline.conversations.containers import streams
from pixel_pipeline.conversations.lanes import Lanes
from pixel_pipeline_tests.conversations.convert import Converted, convert, lines, sharegpt

words = st.sampled_from(["yes", "", " ", "a\nb", "caf\u00e9", "\u4f60\u597d\u3002\u54a8\u8be2\u5e08\uff1a\u55ef", "x\r\ny", "&amp;", "<think>t</think>a", "\x00", "\u00c3\u00a9"])  # fmt: skip
speakers = st.sampled_from(["human", "gpt", "human", "gpt", "system", "Tom", "Therapist", "tool"])
odd_values = words | st.none() | st.integers(-9, 1 << 63) | st.lists(words, max_size=2)
turn = st.fixed_dictionaries({"from": speakers, "value": words})
odd_turn = st.fixed_dictionaries(
    {"from": speakers | odd_values, "value": odd_values}, optional={"weight": st.integers(-9, 1 << 63)}
)
alternating = st.integers(1, 3).flatmap(
    lambda n: st.lists(words, min_size=2 * n, max_size=2 * n).map(
        lambda said: [
            {"from": ("human", "gpt")[index % 2], "value": text or "ok"} for index, text in enumerate(said)
        ]
    )
)
besides = {
    "id": st.integers(-9, 1 << 63) | words,
    "language": st.sampled_from(["en", "pt-BR", "somewhere"]),
    "n": odd_values,
}
records = st.fixed_dictionaries(
    {
        "conversations": alternating
        | alternating
        | st.lists(turn, max_size=4)
        | st.lists(odd_turn, max_size=3)
    },
    optional=besides,
)
written = records.map(orjson.dumps) | st.sampled_from(
    [
        b"",
        b"  ",
        b"{",
        b"null",
        b'{"conversations": []}',
        b'{"no": 1}',
        b'{"conversations": [{"from": "human"}]}{}',
        b"\xff",
    ]
)


def both_ways(data: bytes) -> tuple[Converted, Converted]:
    short = convert(data)
    with mock.patch.object(lanes, "_MOST_MISSES", -1):
        return short, convert(data)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(written, min_size=2, max_size=12), st.sampled_from([1, 64, 300, 1 << 19]))
def test_the_short_way_is_the_long_way(rows: list[bytes], block: int) -> None:
    with mock.patch.object(streams, "BLOCK", block):
        short, long = both_ways(b"\n".join(rows) + b"\n")
    assert short.rows == long.rows
    assert short.bad == long.bad
    assert short.ledger == long.ledger


@pytest.fixture
def in_lane(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each record whether it was in a lane, filled as blocks are read."""
    found: list[bool] = []
    original = Lanes.read

    def watched(self: Lanes, *args: Any, **named: Any) -> Iterator[Any]:
        for stretch in original(self, *args, **named):
            found.extend(stretch.in_lane.tolist())
            yield stretch

    monkeypatch.setattr(Lanes, "read", watched)
    return found


def test_clean_lines_take_the_short_way(in_lane: list[bool]) -> None:
    rows = [sharegpt("How are you?", "Fine.", id=n, language="en") for n in range(20)]
    rows[7] = sharegpt("one\r\ntwo", "three", id=7, language="en")
    got = convert(lines(*rows))
    assert in_lane == [n != 7 for n in range(20)]
    assert [orjson.loads(row["metadata"])["id"] for row in got.rows] == [*range(20)]
    assert {row["language"] for row in got.rows} == {"en"}
    assert got.messages[7][0] == ("user", "one\ntwo")


def test_a_bad_line_keeps_few_others_out_of_the_lane(in_lane: list[bool]) -> None:
    rows: list[Any] = [sharegpt("How are you?", "Fine.", id=n) for n in range(200)]
    rows[70] = b"{"
    assert convert(lines(*rows)).error_classes == ["bad_json"]
    assert not in_lane[70]
    assert sum(in_lane) >= 196


def test_a_file_without_a_lane_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(streams, "BLOCK", 64)
    monkeypatch.setattr(lanes, "lane_of", lambda *given: asked.append(given))
    convert(lines(*({"prompt": "a", "response": "b"} for _ in range(200))))
    assert 0 < len(asked) <= lanes._MOST_MISSES + 1
