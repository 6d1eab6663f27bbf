"""Flat lists of messages: each conversation is one record, wherever its messages are."""

from typing import Any

import orjson
import pytest

from pixel_pipeline.conversations.threads import messages
from pixel_pipeline_tests.conversations.converted import Converted, convert, lines


def rows(*places: tuple[int, int]) -> list[dict[str, Any]]:
    """Messages by number of their dialogue and of their turn."""
    return [
        {"dialogue_id": f"d{dialogue}", "turn": turn, "speaker": "bot" if turn % 2 else "user", "utterance": f"{dialogue}.{turn}", "topic": "x"}
        for dialogue, turn in places
    ]  # fmt: skip


def texts(got: Converted) -> list[list[str]]:
    return [[content for _, content in turns] for turns in got.messages]


EXPECTED = [["1.0", "1.1", "1.2"], ["2.0", "2.1"]]


@pytest.mark.parametrize(
    "order", [[(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)], [(1, 2), (2, 0), (1, 0), (2, 1), (1, 1)]]
)
def test_rows_of_a_dialogue_are_one_conversation(order: list[tuple[int, int]]) -> None:
    data = lines(*rows(*order))
    got = convert(data)
    assert texts(got) == EXPECTED
    assert got.ledger.records_in == 2
    assert orjson.loads(got.rows[0]["metadata"]) == {"dialogue_id": "d1", "topic": "x"}
    assert got.rows[0]["source"]["position"] == 0
    assert texts(convert(orjson.dumps(rows(*order)))) == EXPECTED


def test_a_table_of_utterances() -> None:
    text = 'conv_id,utterance_idx,speaker_idx,utterance,mood\nh1,1,10,"a, b",sad\nh1,2,11,c,sad\nh2,1,5,d,glad\nh2,2,9,e,glad\n'
    got = convert(text.encode(), "gdrive/raw/F/x.csv")
    assert texts(got) == [["a, b", "c"], ["d", "e"]]
    assert orjson.loads(got.rows[1]["metadata"]) == {
        "conv_id": "h2",
        "mood": "glad",
        "speakers": {"5": "user", "9": "assistant"},
    }


def test_messages_that_name_their_parents() -> None:
    def message(own: str, parent: str | None, role: str) -> dict[str, Any]:
        return {"message_id": own, "parent_id": parent, "role": role, "text": own}

    flat = [message("q1", None, "prompter"), message("q9", None, "prompter"), message("a1", "q1", "assistant"), message("a2", "q1", "assistant"),
            message("a9", "q9", "assistant"), message("q2", "a1", "prompter"), message("a3", "q2", "assistant")]  # fmt: skip
    got = convert(orjson.dumps(flat))
    assert texts(got) == [["q1", "a1", "q2", "a3"], ["q1", "a2"], ["q9", "a9"]]
    # If messages name the tree, children may precede their parents.
    named = [{**row, "message_tree_id": "q9" if "9" in row["text"] else "q1"} for row in reversed(flat)]
    assert sorted(texts(convert(lines(*named)))) == sorted(
        [["q1", "a1", "q2", "a3"], ["q1", "a2"], ["q9", "a9"]]
    )


def test_a_bad_row_is_quarantined_beside_its_conversation() -> None:
    got = convert(lines(*rows((1, 0), (1, 1)), b'{"dialogue_id": ', *rows((2, 0), (2, 1))))
    assert (texts(got), got.error_classes) == ([["1.0", "1.1"], ["2.0", "2.1"]], ["bad_json"])


def test_a_late_message_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_PENDING", 400)
    got = convert(lines(*rows((1, 0), (1, 1), *((n, turn) for n in range(2, 9) for turn in (0, 1)), (1, 2))))
    assert (got.ledger.records_out, got.error_classes) == (8, ["scattered_conversation"])
    assert b'"1.2"' in got.bad[0]["raw_bytes"]


@pytest.mark.parametrize(
    "record",
    [{"session_id": 4, "text": "said"}, {"id": 1, "parent_id": None, "text": "said"}, {"conversation_id": 1, "prompt": "a", "response": "b", "text": "c"}],
)  # fmt: skip
def test_records_that_are_not_messages(record: Any) -> None:
    got = convert(lines(record, record, record))
    assert got.ledger.records_in == 3


def test_messages_without_a_name_are_not_joined() -> None:
    """Without an id and a parent, messages do not belong together."""
    nameless = {"id": None, "parent_id": None, "role": "user", "text": "a"}
    got = convert(lines(nameless, nameless, nameless))
    assert got.ledger.records_in == 3
    assert {row["position"] for row in got.bad} == {0, 54, 108}
