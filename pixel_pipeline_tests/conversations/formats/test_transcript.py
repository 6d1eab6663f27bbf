from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.records import Parsed, RecordError

Parse = Callable[[Any], Parsed]
Refuse = Callable[[Any], RecordError]


@pytest.mark.parametrize(
    ("first", "second"),
    [("Therapist", "Client"), ("Counselor", "patient"), ("Doctor", "Patient"), ("Assistant", "Human"), ("AGENT", "User"),
     ("心理咨询师", "来访者"), ("支持者", "求助者"), ("**Therapist**", "**Client**")],
)  # fmt: skip
@pytest.mark.parametrize("colon", [": ", "：", " : "])
def test_speakers(parse: Parse, first: str, second: str, colon: str) -> None:
    got = parse(f"{first}{colon}a: b\n\n{second}{colon}c\n{first}{colon}d\n")
    assert got.messages == [("assistant", "a: b"), ("user", "c"), ("assistant", "d")]
    assert got.metadata == {}


def test_lines_without_a_speaker_go_on_with_the_turn(parse: Parse) -> None:
    got = parse("Client: a\r\n  b\r\n\r\n1. One: two\r\nTherapist: c")
    assert got.messages == [("user", "a\n  b\n\n1. One: two"), ("assistant", "c")]


def test_header_and_stage_directions_go_to_the_metadata(parse: Parse) -> None:
    got = parse("Session 3\nDate: 12 May\n\nClient: a\n[pause]\n（深呼吸练习）\nTherapist: b (softly)\n")
    assert got.messages == [("user", "a"), ("assistant", "b (softly)")]
    assert got.metadata == {
        "header": ["Session 3", "Date: 12 May"],
        "stage_directions": ["[pause]", "（深呼吸练习）"],
    }


def test_somebody_else_who_speaks_again_is_no_part_of_a_turn(parse: Parse, refuse: Refuse) -> None:
    error = refuse("Client: a\nTherapist: b\nMum: c\nTherapist: d\nMum: e")
    assert error.error_class == "unknown_role"
    assert "'Mum'" in error.reason
    assert parse("Client: a\nTherapist: b\nNote: c\nNote: d").messages[-1] == (
        "assistant",
        "b\nNote: c\nNote: d",
    )
    assert parse("Client: a\nTherapist: b\nSummary: c").messages[-1] == ("assistant", "b\nSummary: c")


def test_a_dialogue_on_one_line_is_cut_at_its_speakers(parse: Parse) -> None:
    got = parse({"dialogue": "Doctor: How is it? Patient: Not well. Time: late. Doctor: I see.", "ID": "4"})
    assert got.messages == [
        ("assistant", "How is it?"),
        ("user", "Not well. Time: late."),
        ("assistant", "I see."),
    ]
    assert got.repaired == {"inline_speakers": 2}
    assert got.metadata == {"ID": "4"}


def test_a_list_of_tagged_strings(parse: Parse, refuse: Refuse) -> None:
    assert parse(["求助者：a", "支持者：b", "more"]).messages == [("user", "a"), ("assistant", "b\nmore")]
    assert refuse(["Client: a", "Therapist: b", 3]).error_class == "bad_turn"
