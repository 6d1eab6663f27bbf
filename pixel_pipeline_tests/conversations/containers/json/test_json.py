"""json_lines, json_array and json_document."""

from collections import Counter
import json
from typing import Any

import orjson
import pytest

from pixel_pipeline.conversations.containers import opening as containers
from pixel_pipeline.conversations.containers import streams
from pixel_pipeline.conversations.containers.json import elements, json_array, json_document, json_lines
from pixel_pipeline.conversations.model.identity import record_id
from pixel_pipeline.conversations.model.records import ObjectError
from pixel_pipeline_tests.conversations.converted import convert, lines, sharegpt, single_records

GOOD = sharegpt("hello", "hi")
KEY = "gdrive/raw/Folder/file"


def limit_records(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in (json_lines, streams):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", size)
    monkeypatch.setattr(streams, "BLOCK", size // 4)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.csv", "x.txt", "x"])
def test_content_decides_not_the_name(name: str) -> None:
    key = f"gdrive/raw/F/{name}"
    assert convert(lines(GOOD, GOOD), key).ledger.container == "json_lines"
    for array in (
        orjson.dumps([GOOD, GOOD]),
        orjson.dumps([GOOD], option=orjson.OPT_INDENT_2),
        b"[\n" + b",\n".join(map(orjson.dumps, [GOOD] * 5)) + b"\n]",
    ):
        assert convert(array, key).ledger.container == "json_array"
    assert convert(orjson.dumps(GOOD), key).ledger.container == "json_document"


def test_a_bad_line_is_quarantined_alone_with_its_bytes_and_place() -> None:
    good = orjson.dumps(GOOD)
    bad = [b'{"conversations": [', b'{"a": "caf\xe9"}', b"not json", good[:-1]]
    got = convert(b"\n".join([good, bad[0], good, bad[1], b"", bad[2], bad[3], good]) + b"\r\n")
    assert got.error_classes == ["bad_json", "bad_encoding", "bad_json", "bad_json"]
    assert [row["raw_bytes"] for row in got.bad] == bad
    assert [row["raw_size"] for row in got.bad] == [len(line) for line in bad]
    size = len(good) + 1
    assert got.bad[0]["position"] == size
    assert got.bad[0]["position_kind"] == "byte"
    assert got.rows[1]["source"]["position"] == size + len(bad[0]) + 1
    assert got.ledger.records_out == 3


def test_the_first_line_may_be_the_bad_one() -> None:
    got = convert(lines(b'{"conversations": [}', *[GOOD] * 3))
    assert (got.ledger.container, got.ledger.records_out, got.ledger.quarantined) == ("json_lines", 3, 1)


def test_offsets_start_behind_a_byte_order_mark() -> None:
    got = convert(b"\xef\xbb\xbf" + lines(GOOD, GOOD))
    assert [row["source"]["position"] for row in got.rows] == [3, 4 + len(orjson.dumps(GOOD))]
    assert got.ledger.repaired == {"byte_order_mark": 1}


def test_mistakes_of_json_writers_are_repaired_and_counted() -> None:
    nan = (
        b'{"prompt": "a", "response": "b", "score": NaN, "big": 123456789012345678901234567890, "inf": 1e999}'
    )
    half = b'{"prompt": "a \\ud83d", "response": "b", "note": "\\udc00"}'
    control = b'{"prompt": "a\x00\x07", "response": "b\\u0000\\r\\nc"}'
    got = convert(lines(nan, half, control))
    assert got.messages == [
        [("user", "a"), ("assistant", "b")],
        [("user", "a \ufffd"), ("assistant", "b")],
        [("user", "a"), ("assistant", "b\nc")],
    ]
    metadata = orjson.loads(got.rows[0]["metadata"])
    assert (metadata["score"], metadata["inf"]) == (None, None)
    assert got.ledger.repaired == {
        "non_finite_numbers": 2, "lone_surrogates": 1, "control_characters": 3, "line_ends": 1,
    }  # fmt: skip


def test_unescaped_line_ends_and_tabs_are_accepted() -> None:
    got = convert(b'[{"prompt": "a\n\tb", "response": "c", "n": NaN}, {"prompt": "a", "response": "b"}]')
    assert got.messages[0] == [("user", "a\n\tb"), ("assistant", "c")]
    assert got.ledger.repaired == {"unescaped_white_space": 1, "non_finite_numbers": 1}
    assert convert(b'{"prompt": "a\tb", "response": "c"}\n' * 2).ledger.records_out == 2


def test_the_last_of_two_equal_keys_wins() -> None:
    assert convert(lines(b'{"prompt": "a", "prompt": "b", "response": "c"}', GOOD)).messages[0][0] == (
        "user",
        "b",
    )


def test_a_line_longer_than_a_record_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_records(monkeypatch, 2000)
    long = orjson.dumps(sharegpt("x" * 3000, "y"))
    got = convert(lines(GOOD, long, GOOD))
    assert got.error_classes == ["too_large"]
    assert got.bad[0]["raw_size"] == len(long)
    assert got.ledger.records_out == 2


@pytest.mark.parametrize("block", [1, 7, 64, 100_000])
def test_lines_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(streams, "BLOCK", block)
    records = [orjson.dumps(sharegpt(f"q{n}", "a" * (n + 1))) for n in range(50)]
    data = b"\n\n".join(records[:20]) + b"\r\n \n" + b"\r\n".join(records[20:])
    got = convert(data)
    assert [
        data[row["source"]["position"] :].startswith(record)
        for row, record in zip(got.rows, records, strict=True)
    ] == [True] * 50
    assert got.error_classes == []


def test_a_session_longer_than_the_probe_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    long = sharegpt("x" * (containers.PROBE_BYTES + 10), "y")
    got = convert(lines(long, GOOD))
    assert (got.ledger.container, got.ledger.records_out) == ("json_lines", 2)


@pytest.mark.parametrize(
    ("document", "positions"),
    [
        ({"conversations": [GOOD, GOOD["conversations"]]}, [0, 1]),
        (GOOD, [0]),
        ({"a": GOOD, "b": GOOD, "c": {"no": 1}}, [0, 1]),
        ({"data": [{"prompt": "a", "response": "b"}], "version": 1}, [0]),
    ],
)
def test_documents(document: Any, positions: list[int]) -> None:
    got = convert(orjson.dumps(document))
    assert got.ledger.container == "json_document"
    assert [row["source"]["position"] for row in got.rows] == positions
    assert [row["id"] for row in got.rows] == [record_id(key=KEY, position=p) for p in positions]
    assert {row["source"]["position_kind"] for row in got.rows} == {"record"}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("indent", [0, orjson.OPT_INDENT_2])
@pytest.mark.parametrize(
    "array",
    [
        [GOOD, {"prompt": "é", "response": "b"}],
        ["Client: a\nTherapist: b", "Client: c\nTherapist: d"],
        [GOOD["conversations"], sharegpt("x", "y")["conversations"]],
    ],
)
def test_positions_of_elements_are_offsets_of_their_first_bytes(array: Any, indent: int, mark: bytes) -> None:
    data = mark + b" \n" + orjson.dumps(array, option=indent)
    got = convert(data)
    assert got.ledger.container == "json_array"
    positions = [row["source"]["position"] for row in got.rows]
    text = data.decode()
    found = [json.JSONDecoder().raw_decode(text, len(data[:position].decode()))[0] for position in positions]
    assert found == array
    assert [row["id"] for row in got.rows] == [record_id(key=KEY, position=p) for p in positions]
    assert {row["source"]["position_kind"] for row in got.rows} == {"byte"}


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "client", "content": "a"}, {"role": "counselor", "content": "b"}],
        ["求助者：a", "支持者：b"],
    ],
)
def test_an_array_that_is_one_conversation(turns: Any) -> None:
    [row] = convert(b"\n" + orjson.dumps(turns)).rows
    assert (row["source"]["position"], row["source"]["position_kind"]) == (0, "byte")


def test_a_document_keyed_by_id_keeps_the_ids() -> None:
    got = convert(orjson.dumps({"case-1": GOOD, "case-2": GOOD}))
    assert [orjson.loads(row["metadata"])["record_key"] for row in got.rows] == ["case-1", "case-2"]


def test_elements_are_quarantined_with_their_bytes() -> None:
    got = convert(orjson.dumps([GOOD, {"x": [1, None]}, "text", None]))
    assert [row["raw_bytes"] for row in got.bad] == [b'{"x":[1,null]}', b'"text"', b"null"]
    assert got.error_classes == ["unrecognised_schema"] * 3
    assert got.bad[0]["reason"] == "no format matches the keys x"


def test_a_bad_byte_affects_only_its_record() -> None:
    good = orjson.dumps(GOOD)
    got = convert(b"[" + good + b',{"prompt": "\xff\xfe", "response": "b"},' + good + b"]")
    assert (got.ledger.records_out, got.error_classes) == (2, ["bad_encoding"])


@pytest.mark.parametrize("data", [b'{"a": [1, 2', b'{"a": }', b'{"a": 1} {"b"'])
def test_a_broken_document_is_one_quarantined_object(data: bytes) -> None:
    got = convert(data, "gdrive/raw/F/x.json")
    assert (got.ledger.records_in, got.ledger.quarantined) == (1, 1)
    assert (got.bad[0]["position_kind"], got.bad[0]["raw_bytes"], got.bad[0]["raw_size"]) == (
        "object",
        None,
        len(data),
    )


@pytest.mark.parametrize(
    ("middle", "end", "errors"),
    [
        (b'{"prompt": }', b"]", ["bad_json"]),
        (b'{"prompt": "\xff", "response": "b"}', b"]", ["bad_encoding"]),
        (b"[" * 3000 + b"]" * 3000, b"]", ["nesting_too_deep"]),
        (b"{}", b"", ["unrecognised_schema", "bad_json"]),
        (b"{}", b"] and more", ["unrecognised_schema", "bad_json"]),
        (b"{}", b',{"prompt": "a", "resp', ["unrecognised_schema", "bad_json"]),
    ],
    ids=["bad-element", "bad-byte", "deep", "no-end", "text-behind", "cut-off"],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_whole_elements_of_a_damaged_array_are_converted(
    middle: bytes, end: bytes, errors: list[str], wrapped: bool
) -> None:
    good = orjson.dumps(GOOD)
    data = b"[\n" + good + b" ,\n" + middle + b",\n" + good + end
    if wrapped:
        data = b'{"version": 1, "conversations": ' + data + (b"}" if end == b"]" else b"")
    got = convert(data)
    assert got.ledger.records_out == 2
    assert sorted(got.error_classes) == sorted(errors)


ARRAY = (
    b"[\n"
    + b" ,\n".join([*map(orjson.dumps, [GOOD, sharegpt('a],\n"', "b\\"), GOOD]), b"5", b"[[1], {}]"])
    + b"\n]\n"
)


@pytest.mark.parametrize("cut", range(1, len(ARRAY)))
def test_a_range_knows_whether_it_ends_between_two_elements(cut: int) -> None:
    whole = single_records(json_array.read_elements([ARRAY], start=7, repaired=Counter()))
    before = json_array.read_elements([ARRAY[:cut]], start=7, repaired=Counter(), cut=True)
    records: list[Any] = []
    try:
        records += single_records(before)
    except ObjectError:
        assert not before.ends_at_boundary
    boundaries = {record.position - 7 for record in whole[1:]}
    assert before.ends_at_boundary == (
        ARRAY[:cut].rstrip()[-1:] == b"," and cut + ARRAY[cut:].index(ARRAY[cut:].lstrip()) in boundaries
    )
    if before.ends_at_boundary:
        rest = json_array.read_elements([ARRAY[cut:]], start=7 + cut, repaired=Counter(), opened=True)
        assert records + single_records(rest) == whole
        assert rest.ends_at_boundary


def test_a_range_of_one_conversation_ends_at_no_boundary() -> None:
    turns = orjson.dumps(GOOD["conversations"])
    before = json_array.read_elements([turns[:-1] + b","], start=0, repaired=Counter(), cut=True)
    assert len(list(before)) == 1
    assert not before.ends_at_boundary


def test_a_comma_behind_the_last_element_is_repaired() -> None:
    got = convert(b"[" + orjson.dumps(GOOD) + b",\n]\n")
    assert (got.ledger.records_out, got.ledger.quarantined, got.ledger.repaired) == (
        1,
        0,
        {"trailing_commas": 1},
    )


@pytest.mark.parametrize("more", [b",,", b"},", b"],\n[", b",]\n["])
@pytest.mark.parametrize("window", [1 << 20, 110])
def test_reading_continues_after_an_extra_mark(
    more: bytes, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elements, "WINDOW_BYTES", window)
    good = orjson.dumps(GOOD)
    got = convert(b"[" + good + more + good + b",]")
    assert (got.ledger.records_out, got.error_classes) == (2, [])
    assert got.ledger.repaired["resynchronised"] >= 1


@pytest.mark.parametrize("window", [200, 300, 1 << 20])
def test_repeated_damage(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "WINDOW_BYTES", window)
    good, bad = b'{"prompt": "a", "response": "b"}', b'{"prompt": "a", "resp'
    records = [bad if number % 4 == 3 else good for number in range(40)]
    data = b"[" + b",\n".join(records) + b"]"
    got = convert(data)
    assert (got.ledger.records_out, got.error_classes) == (30, ["bad_json"] * 10)
    assert all(data[row["source"]["position"] :].startswith(good) for row in got.rows)


@pytest.mark.parametrize(
    "bad",
    [
        b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]',
        b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gp',
        b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": {"b": [1}',
        b'{"conversations": [{"from": "human", "value": "said "a" }, {"from": "gpt", "value": "b"}]}',
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("window", [1 << 20, 300])
def test_an_unterminated_element_affects_no_other(
    bad: bytes, wrapped: bool, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elements, "WINDOW_BYTES", window)
    good = orjson.dumps(GOOD)
    data = b"[" + b",\n".join([good, good, bad, good, good]) + b"]"
    data = b'{"version": 1, "conversations": ' + data + b"}" if wrapped else data
    got = convert(data)
    assert (got.ledger.records_out, got.error_classes) == (4, ["bad_json"])
    assert got.bad[0]["raw_bytes"].startswith(bad)
    if not wrapped:
        places = [row["source"]["position"] for row in got.rows]
        assert all(data[place:].startswith(good) for place in places)
        assert data[got.bad[0]["position"] :].startswith(bad)


def test_concatenated_documents() -> None:
    got = convert(b"\n".join(orjson.dumps(GOOD, option=orjson.OPT_INDENT_2) for _ in range(3)))
    assert (got.ledger.records_out, got.ledger.repaired) == (3, {"concatenated_documents": 1})


PRINTED = orjson.dumps(GOOD, option=orjson.OPT_INDENT_2)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (b'{\n  "conversations": [\n    {"from": "hu', "bad_json"),
        (PRINTED.replace(b"hello", b"\xff"), "bad_encoding"),
        (b"3", "bad_json"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_damaged_document_affects_no_other_concatenated_one(bad: bytes, error: str, place: int) -> None:
    documents = [PRINTED, PRINTED, PRINTED]
    documents.insert(place, bad)
    got = convert(b"\n".join(documents))
    if bad == b"3" and not place:
        return  # not a document that begins with an object
    assert (got.ledger.records_out, got.error_classes) == (3, [error])
    assert got.bad[0]["position"] == place


def test_other_members_of_a_large_object_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {
        "version": 1,
        "about": {"x": "y" * 70_000},
        "conversations": [GOOD, GOOD, GOOD],
        "by": ["me"],
        "n": "z" * 70_000,
    }
    whole = convert(orjson.dumps(document)).rows
    monkeypatch.setattr(json_document, "MAX_WHOLE_BYTES", 10)
    rows = convert(orjson.dumps(document)).rows
    assert [row["id"] for row in rows] == [row["id"] for row in whole]
    first, second, last = (orjson.loads(row["metadata"])["document"] for row in rows)
    assert first == {"version": 1, "about": {"bytes": 70_008}}
    assert second == {"version": 1}
    assert last == {"version": 1, "by": ["me"], "n": {"bytes": 70_002}}


@pytest.mark.parametrize("largest", [10, 1 << 24])
def test_large_objects_are_cut_into_their_members(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_document, "MAX_WHOLE_BYTES", largest)
    monkeypatch.setattr(streams, "CHUNK", 7)
    got = convert(orjson.dumps({f"case {n}": GOOD if n % 2 else {"no": n} for n in range(6)}) + b"\n")
    assert (got.ledger.records_out, got.error_classes) == (3, ["unrecognised_schema"] * 3)
    assert orjson.loads(got.rows[0]["metadata"]) == {"record_key": "case 1"}
    assert [row["source"]["position"] for row in got.rows] == [1, 3, 5]
    got = convert(orjson.dumps({"info": {"n": 2}, "conversations": [GOOD, GOOD]}))
    assert got.ledger.records_out == 2
    got = convert(orjson.dumps({"train": [GOOD, GOOD], "test": [GOOD]}))
    assert [orjson.loads(row["metadata"])["record_key"] for row in got.rows] == ["train", "train", "test"]


def test_a_session_of_any_length_is_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [{"role": "assistant" if n % 2 else "user", "content": f"{n}"} for n in range(500)]
    assert len(convert(orjson.dumps(turns)).messages[0]) == 500
    monkeypatch.setattr(json_array, "MAX_RECORD_BYTES", 100)
    assert convert(orjson.dumps(turns)).error_classes == ["too_large"]


def test_mixed_schemas_record_by_record() -> None:
    got = convert(
        lines(GOOD, {"prompt": "a", "response": "b"}, {"instruction": "a", "output": "b"}, {"n": 1}, 5, "x")
    )
    assert got.ledger.formats == {"sharegpt": 1, "pair": 1, "alpaca": 1}
    assert got.error_classes == ["unrecognised_schema"] * 3


def test_a_second_line_of_any_size_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_records(monkeypatch, 1 << 20)
    huge = orjson.dumps(sharegpt("A question", "very long " * 200_000))
    converted = convert(lines(sharegpt("One", "Two"), huge, sharegpt("Three", "Four")))
    assert [messages[0] for messages in converted.messages] == [("user", "One"), ("user", "Three")]
    assert converted.error_classes == ["too_large"]


def test_a_first_line_of_any_size_is_one_line_by_the_files_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit_records(monkeypatch, 1 << 20)
    huge = orjson.dumps(sharegpt("A question", "very long " * 200_000))
    data = lines(huge, sharegpt("One", "Two"), sharegpt("Three", "Four"))
    converted = convert(data, "gdrive/raw/Folder/file.jsonl")
    assert [messages[0] for messages in converted.messages] == [("user", "One"), ("user", "Three")]
    assert converted.error_classes == ["too_large"]
    assert converted.bad[0]["raw_size"] == len(huge)
    # A document with another name and an array are not lines.
    document = orjson.dumps({"data": [sharegpt(f"Question {n}", "long " * 100) for n in range(3000)]})
    assert convert(document, "gdrive/raw/Folder/file.json").ledger.records_out == 3000
    array = orjson.dumps([sharegpt(f"Question {n}", "long " * 100) for n in range(3000)])
    assert convert(array, "gdrive/raw/Folder/file.jsonl").ledger.records_out == 3000
