import io

import orjson
import pytest

from pixel_pipeline.conversations.convert import conversion
from pixel_pipeline.conversations.convert.conversion import convert_object
from pixel_pipeline.conversations.model.identity import record_id
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline_tests.conversations.converted import convert, lines, sharegpt

SOURCE = SourceObject(
    bucket="b", key="gdrive/raw/F/x", etag="e", size=1, family="f", category="c", dataset="d"
)


def test_a_row_matches_the_schema() -> None:
    got = convert(lines(sharegpt("hello", "hi", language="pt-BR", topic="x"), sharegpt("a", "b")))
    row = got.rows[0]
    assert row["id"] == record_id(key="gdrive/raw/Folder/file", position=0)
    assert row["source"] == {
        "bucket": "b", "key": "gdrive/raw/Folder/file", "etag": "e", "position": 0, "position_kind": "byte",
        "format": "sharegpt", "member": None,
    }  # fmt: skip
    assert (row["category"], row["family"], row["dataset"]) == ("folder", "folder", "folder")
    assert row["language"] == "pt-br"
    assert row["tags"] == []
    assert row["reasoning"] is None
    assert orjson.loads(row["metadata"]) == {"topic": "x"}
    assert got.rows[1]["metadata"] == "{}"
    assert got.ledger.to_row()["formats"] == '{"sharegpt":2}'


def test_batches_are_bounded_and_hold_everything_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "BATCH_RECORDS", 10)
    data = lines(*(sharegpt(f"question {n}", "answer") if n % 3 else {"no": n} for n in range(95)))
    converted = convert_object(SOURCE, io.BytesIO(data))
    batches = list(converted)
    assert [len(b.conversations) + len(b.quarantine) for b in batches] == [10] * 9 + [5]
    positions = [p["position"] for b in batches for p in b.conversations["source"].to_pylist()]
    assert positions == sorted(positions)
    assert converted.ledger.records_in == 95


def test_a_large_batch_is_completed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "BATCH_SIZE", 1000)
    data = lines(*({"prompt": "x" * 600, "response": "y" * 600, "at": {"n": n}} for n in range(4)))
    assert [len(b.conversations) for b in convert_object(SOURCE, io.BytesIO(data))] == [1, 1, 1, 1]


def test_the_ledger_is_complete_only_at_the_end_and_a_conversion_runs_once() -> None:
    conversion = convert_object(SOURCE, io.BytesIO(lines(sharegpt("a", "b"))))
    with pytest.raises(RuntimeError, match="iterate"):
        _ = conversion.ledger
    list(conversion)
    assert conversion.ledger.records_out == 1
    with pytest.raises(RuntimeError, match="once"):
        list(conversion)


def test_the_same_bytes_give_equal_tables() -> None:
    data = lines(*(sharegpt(f"q{n}", "a", n=n) for n in range(50)), b"{bad}", {"x": 1})
    first, second = convert(data), convert(data)
    assert first.conversations.equals(second.conversations)
    assert first.quarantine.equals(second.quarantine)
    assert first.ledger == second.ledger


def test_an_error_of_the_stream_itself_is_raised() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise ConnectionError("reset")
            return super().read(10)

    for start in (b'{"a": 1}\n' * 5, b"PAR1" + b"x" * 100):
        with pytest.raises(ConnectionError):
            list(convert_object(SOURCE, Broken(start)))


def test_records_of_several_sessions_get_sub_indices() -> None:
    bundle = {
        "conversations": [sharegpt("a", "b"), sharegpt("", "d"), sharegpt("e", "f")],
        "project": "p",
        "notes": [1],
    }
    got = convert(lines(bundle, sharegpt("g", "h")))
    assert got.ledger.records_in == 4
    assert got.error_classes == ["empty_turn"]
    assert orjson.loads(got.bad[0]["raw_bytes"]) == sharegpt("", "d")
    key = "gdrive/raw/Folder/file"
    assert [row["id"] for row in got.rows][:2] == [
        record_id(key=key, position=0, sub_index=n) for n in (0, 2)
    ]
    metadata = [orjson.loads(row["metadata"]) for row in got.rows]
    assert metadata == [{"document": {"project": "p", "notes": [1]}}, {"document": {"project": "p"}}, {}]


@pytest.mark.parametrize(
    "record",
    [
        b'{"messages": [{"role": "user", "content": "SENTINEL',
        b'"SENTINEL SENTINEL"',
        b'{"SENTINEL said this": "SENTINEL"}',
        b'{"SENTINEL, the key": {"x": 1}, "text": "SENTINEL"}',
        orjson.dumps({"messages": [{"role": "user", "content": "SENTINEL"}]}),
        orjson.dumps({"messages": [{"role": "I am SENTINEL", "content": "SENTINEL"}]}),
        orjson.dumps({"messages": [{"role": "user", "content": "SENTINEL"}, "SENTINEL"]}),
        orjson.dumps({"messages": [{"role": "user", "content": "SENTINEL"}, {"SENTINEL x": 1}]}),
        orjson.dumps({"messages": [{"role": "user", "content": "SENTINEL"}, {"role": "user", "content": {"SENTINEL a": 1}}]}),
        orjson.dumps({"conversations": [{"from": "human", "value": ["SENTINEL", 4]}]}),
        orjson.dumps({"conversation": [{"input": "SENTINEL", "output": ""}, "SENTINEL"]}),
        orjson.dumps({"instruction": "SENTINEL", "output": ""}),
        orjson.dumps({"prompt": "SENTINEL", "response": 5}),
        orjson.dumps({"query": "SENTINEL", "response": "SENTINEL", "history": ["SENTINEL"]}),
        orjson.dumps({"dialogue": "Doctor: SENTINEL\nDoctor: SENTINEL"}),
        orjson.dumps({"dialogue": "Doctor: SENTINEL\nMy SENTINEL x: SENTINEL\nMy SENTINEL x: SENTINEL"}),
        orjson.dumps(["Therapist: SENTINEL", "Therapist: SENTINEL", 7]),
    ],
)  # fmt: skip
def test_no_reason_has_conversation_text(record: bytes) -> None:
    for data in (
        lines(sharegpt("a", "b"), record),
        b"[" + record + b"]",
        b"x,y\nSENTINEL\n1,SENTINEL\n" + record,
    ):
        got = convert(data)
        assert got.ledger.quarantined
        assert not [row for row in got.bad if "SENTINEL" in row["reason"] + row["error_class"]]
        assert "SENTINEL" not in str(got.ledger.to_row())
