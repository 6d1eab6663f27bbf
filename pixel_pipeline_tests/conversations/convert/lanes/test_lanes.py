"""The short way gives what the long way gives, to the letter."""

from collections.abc import Iterator
import csv
import io
import re
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pyarrow as pa
import pytest

from pixel_pipeline.conversations.containers import streams
from pixel_pipeline.conversations.convert.lanes import choice as lanes
from pixel_pipeline.conversations.convert.lanes import parts
from pixel_pipeline.conversations.convert.lanes.choice import Lanes
from pixel_pipeline.conversations.formats.questions.prompts import OPEN_ENDS
from pixel_pipeline_tests.conversations.converted import convert, lines, sharegpt
from pixel_pipeline_tests.examples import examples

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
numbers = st.integers(-9, 1 << 63) | st.floats(allow_nan=False) | st.sampled_from([1.0, -0.0, 1e16, 0.25])
besides = {
    "id": st.integers(-9, 1 << 63) | words,
    "language": st.sampled_from(["en", "pt-BR", "somewhere"]),
    "n": odd_values,
    "x": numbers,
    "y": st.booleans() | numbers,
}
chats = st.fixed_dictionaries(
    {
        "conversations": alternating
        | alternating
        | st.lists(turn, max_size=4)
        | st.lists(odd_turn, max_size=3)
    },
    optional=besides,
)
# All keys in all records, or lanes would hardly be met.
full_chats = st.fixed_dictionaries({"conversations": alternating, "id": words, "x": numbers})
opened_chats = st.fixed_dictionaries({"conversations": alternating, "system": words | st.none()})
saids = st.sampled_from(
    ["yes", "Client: a\nTherapist:", "no", "caf\u00e9", "a\nb", "", " ", "x\r\ny", 'say "so"', "<b>", "&amp;"]
)
pairs = st.fixed_dictionaries(
    {"Context": saids, "Response": saids, "label": saids, "system": saids | st.none()}
)
alpacas = st.fixed_dictionaries(
    {"instruction": saids, "input": saids | st.none(), "output": saids},
    optional={"history": st.just([]), "n": st.integers(-9, 99)},
)
thoughts = st.fixed_dictionaries(
    {"Question": saids, "Complex_CoT": saids | st.none(), "Response": saids},
    optional={"answer1": saids, "answer2": saids},
)
kinds = st.sampled_from([chats, full_chats, opened_chats, pairs, alpacas, thoughts, chats | pairs | thoughts])
damaged = st.sampled_from(
    [
        b"",
        b"  ",
        b"{",
        b"null",
        b'{"conversations": []}',
        b'{"no": 1}',
        b'{"conversations": [{"from": "human"}]}{}',
        b"\xff",
        b'{"conversations": []} null {"conversations": []}',
        b'{"conversations": [], "conversations": []}',
        b'{"Context": "a", "Response": "b", "label": "\\ud800", "system": ""}',
        b'{"Context": "a", "Response": "b\xff", "label": "", "system": ""}',
        b'{"Context": "a", "Response": "b", "Response": "c", "label": "", "system": ""}',
        b'{"Context": "a",\n"Response": "b", "label": "", "system": ""}\r',
        b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": "", "x": NaN}',
        b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": "", "x": 1e999}',
        b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": "", "x": 1E2}',
    ]
)


def same_both_ways(data: bytes, key: str = "gdrive/raw/F/x.json") -> None:
    short = convert(data, key)
    with mock.patch.object(lanes, "_MOST_MISSES", -1):
        long = convert(data, key)
    assert short.rows == long.rows
    assert short.bad == long.bad
    assert short.ledger == long.ledger


def chat(**besides: Any) -> dict[str, Any]:
    return sharegpt("a", "b", **besides)


def sharegpt_of(*speakers: str) -> dict[str, Any]:
    return {"conversations": [{"from": speaker, "value": "a"} for speaker in speakers]}


@pytest.mark.parametrize(
    ("good", "odd"),
    [
        (chat(x=0.5), [chat(x=1), chat(x=-0.0), chat(x=1e300), chat(x=None), chat(), chat(x="a"), chat(x=0.5, y=1)]),
        (chat(x=0.5), [b'%b, "x": %b}' % (orjson.dumps(chat())[:-1], x) for x in (b"NaN", b"1e999", b"1E-2", b"0.10", b"-0")]),
        (chat(n=5), [chat(n=1 << 63), chat(n=0.5), chat(n=True), chat(n=[1]), b'%b, "n": -0}' % orjson.dumps(chat())[:-1]]),
        (chat(system="be nice"), [chat(system=" "), chat(system=None), chat(system=5), chat(system="a\r\nb"), chat(), chat(system="x", system_prompt="y")]),
        ({"System_Prompt": "x", **sharegpt("a", "b")}, [{"System_Prompt": "", "conversations": [{"from": "system", "value": "s"}, *chat()["conversations"]]}]),
        ({"system": "x", **sharegpt("a", "b")}, [{"system": "y", "conversations": [{"from": "system", "value": "s"}, *chat()["conversations"]]}, {"system": "y", "conversations": []}]),
        (chat(b=True), [chat(b=False), chat(b=0), chat(b=None)]),
        (chat(s="x"), [chat(s='"\\\n\x7f\u2028\U0001f600'), chat(s=""), chat(s=None), chat(s={"deep": [1]})]),
        (chat(lang="en"), [chat(lang="DE_at"), chat(lang="not a tag"), chat(lang=""), chat(lang=None)]),
        (chat(lang="en", language="fr", locale="x y"), [chat(lang="de", language="?", locale="it")]),
        (chat(z=[1, {"q": None}]), [chat(z=None), chat(z=[]), chat(z=0.5, w=1), chat(Z=[1]), chat(z={"a": "b"}), b'{"z": [], "\xff": 1}']),
        ({"Context": "a", "Response": "b"}, [b'{"Context": "a", "Response": "b\xff"}', b'{"Context": "a\xed\xa0\x80", "Response": "b"}']),
        ({"Context": "a", "Response": "b"}, [b'{"Context": "a", "Response": "\\udc00"}', b'{"Context": "a", "Response": "\\u0000"}']),
        ({"Context": "a", "Response": "b"}, [b'{"Context": "a", "Response": "b"} {"Context": "c", "Response": "d"}', b""]),
        (chat(), [sharegpt_of("human", "gpt", "function_call"), sharegpt_of("user", "gpt", "Human", "bot"), sharegpt_of("GPT", "human", "gpt"), sharegpt_of("user", "bot")]),
        (chat(), [{"conversations": turns} for turns in ([], None, [None], [{}], [{"from": "human", "value": None}], 5, [[]])]),
    ],
)  # fmt: skip
def test_odd_records_among_good_ones(good: Any, odd: list[Any]) -> None:
    for record in odd:
        same_both_ways(lines(good, good, record, good, good, good))


def test_a_carriage_return_in_any_cell() -> None:
    same_both_ways(b'Context,Response,label\r\na,b,"x\r\ny"\r\nc,d,e\r\nf,g,"h\ni"\r\n', "gdrive/raw/F/x.csv")


@st.composite
def lines_of_records(draw: st.DrawFn) -> bytes:
    written = draw(kinds).map(orjson.dumps)
    rows = draw(st.lists(written | written | written | damaged, min_size=2, max_size=12))
    return b"\n".join(rows) + b"\n"


@examples(60)
@given(lines_of_records(), st.sampled_from([1, 64, 300, 1 << 19]))
def test_the_short_way_is_the_long_way(data: bytes, block: int) -> None:
    with mock.patch.object(streams, "BLOCK", block):
        same_both_ways(data)


@examples(40)
@given(
    lines_of_records(),
    st.sampled_from([1, 64, 300, 1 << 19]),
    st.sampled_from([b",", b" ,\r\n  "]),
    st.booleans(),
)
def test_elements_of_an_array_too(data: bytes, block: int, comma: bytes, is_pretty: bool) -> None:
    elements = [line for line in data.split(b"\n") if line.strip()]
    if is_pretty:
        elements = [re.sub(rb"(?<=[{,]) ?(?=\")", b"\n\t", element) for element in elements]
    with mock.patch.object(streams, "BLOCK", block):
        same_both_ways(b"[" + comma.join(elements) + b"]\n")


@given(st.lists(st.text("a:：>] \n\u3000\u2028\x85\x1c。", max_size=5), max_size=6))
def test_questions_that_end_open(questions: list[str]) -> None:
    expected = [question.rstrip().endswith(OPEN_ENDS) for question in questions]
    assert parts.ends_open(pa.array(questions, pa.string())).tolist() == expected


cells = st.sampled_from(
    ["yes", "no", "caf\u00e9", "a\nb", "", " ", "x\r\ny", 'say "so"', "a,b", "<b>", "\ufeffx", "NULL", "1.0"]
)
headers = st.sampled_from(
    [["Context", "Response", "lang"], ["instruction", "input", "output"], ["question", "cot", "answer"]]
)


@examples(40)
@given(
    headers,
    st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=12),
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from(['"', "\n", ",", "\r", "\n\n", " "])), max_size=1
    ),
    st.sampled_from([1, 64, 300, 1 << 19]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_rows_of_csv_too(
    header: list[str], rows: list[tuple[str, ...]], dirt: list[tuple[int, str]], block: int, end: str
) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator=end).writerows([header, *rows])
    text = table.getvalue()
    for at, piece in dirt:
        text = text[:at] + piece + text[at:]
    with mock.patch.object(streams, "BLOCK", block):
        same_both_ways(text.encode(), "gdrive/raw/F/x.csv")


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


def test_a_printed_array_takes_the_short_way(in_lane: list[bool]) -> None:
    rows = [sharegpt("How are\nyou?", "Fine.", id=n) for n in range(20)]
    got = convert(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    assert all(in_lane)
    assert len(got.rows) == len(in_lane) == 20


def test_clean_rows_take_the_short_way(in_lane: list[bool]) -> None:
    rows = [f'"How are\nyou, {n}?","Say ""fine""",{n}' for n in range(20)]
    rows[7] = '"one\r\ntwo",three,7'
    got = convert("\r\n".join(["Context,Response,label", *rows]).encode(), "gdrive/raw/F/x.csv")
    assert in_lane == [n != 7 for n in range(20)]
    assert got.messages[3] == [("user", "How are\nyou, 3?"), ("assistant", 'Say "fine"')]
    assert (got.messages[7][0], got.ledger.repaired) == (("user", "one\ntwo"), {"line_ends": 1})


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
