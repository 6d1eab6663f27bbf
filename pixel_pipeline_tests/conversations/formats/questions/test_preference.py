"""preference: a comparison is kept and tagged, separate from training data."""

from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.model.records import PREFERENCE, Parsed, RecordError
from pixel_pipeline_tests.conversations.converted import convert, lines

Parse = Callable[[Any], Parsed]
Refuse = Callable[[Any], RecordError]
ASKED = {"role": "user", "content": "q"}
BETTER = {"role": "assistant", "content": "good"}
WORSE = {"role": "assistant", "content": "bad"}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [ASKED], "chosen": [BETTER], "rejected": [WORSE]},
        {"prompt": "q", "chosen": [ASKED, BETTER], "rejected": [ASKED, WORSE]},
        {"prompt": "q", "chosen": BETTER, "rejected": WORSE},
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
        {"question": "q", "response_0": "bad", "response_1": "good", "better_response_id": 1},
        {"prompt": "q", "answer1": "good", "answer2": "bad", "preferred": "answer1"},
        {"prompt": "q", "response_a": "bad", "response_b": "good", "winner": "model_b"},
        {"history": "q", "human_ref_A": "good", "human_ref_B": "bad", "winner": "A"},
    ],
)
def test_the_better_side_is_the_conversation_and_the_other_is_kept(parse: Parse, record: Any) -> None:
    got = parse(record)
    assert got.messages == [("user", "q"), ("assistant", "good")]
    assert got.metadata["preference"] == {"rejected": [ASKED, WORSE]}
    assert got.tags == (PREFERENCE,)


def test_without_a_verdict_both_are_candidates(parse: Parse) -> None:
    got = parse({"prompt": "q", "answer1": "x", "answer2": "y", "system": "s", "id": 3})
    assert got.messages == [("system", "s"), ("user", "q"), ("assistant", "x")]
    assert got.metadata == {
        "id": 3,
        "preference": {"alternative": [ASKED, {"role": "assistant", "content": "y"}]},
    }


def test_a_single_answer_judged(parse: Parse) -> None:
    got = parse({"prompt": "q", "completion": "bad", "label": False})
    assert (got.messages[1], got.metadata, got.tags) == (
        ("assistant", "bad"),
        {"preference": {"desirable": False}},
        (PREFERENCE,),
    )


def test_a_side_that_is_not_text(refuse: Refuse) -> None:
    assert refuse({"prompt": 5, "chosen": "a", "rejected": "b"}).error_class == "not_text"


def test_rows_carry_the_tag_and_clean_text() -> None:
    got = convert(
        lines({"prompt": "q", "chosen": "a\r\nb", "rejected": "c\r\nd"}, {"prompt": "q", "response": "a"})
    )
    assert [row["tags"] for row in got.rows] == [["preference"], []]
    assert '"c\\nd"' in got.rows[0]["metadata"]
    assert got.ledger.repaired == {"line_ends": 2}
    assert (
        convert(lines({"chosen": "a", "rejected": "b"}, {"chosen": "a", "rejected": "b"})).error_classes
        == ["one_sided"] * 2
    )
