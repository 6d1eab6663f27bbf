from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.model.records import Parsed, RecordError

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


def test_a_repeated_unknown_speaker_is_not_part_of_a_turn(parse: Parse, refuse: Refuse) -> None:
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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("[00:01:02] Therapist: ", "[00:01:09] Client: "),
        ("00:01 - Therapist: ", "00:02 - Client: "),
        ("(12:03:04.5) THERAPIST: ", "(12:03:09.1) CLIENT: "),
        ("12/05/2023, 10:03 - Therapist: ", "12/05/2023, 10:04 - Client: "),
        ("[2023-05-12 10:03 AM] Therapist: ", "[2023-05-12 10:04 AM] Client: "),
        ("Therapist [00:12]: ", "Client [00:15]: "),
        ("Therapist  0:03\n", "Client  0:12\n"),
        ("## Therapist\n", "## Client\n"),
        ("**Therapist:**\n", "**Client:**\n"),
        ("> Therapist: ", "> Client: "),
    ],
)
def test_times_and_headings(parse: Parse, first: str, second: str) -> None:
    got = parse(f"{first}at 10:30: yes\n{second}c\n\n{first}d\n")
    assert got.messages == [("assistant", "at 10:30: yes"), ("user", "c"), ("assistant", "d")]
    assert got.repaired.get("timestamps", 0) == (
        3 if ":0" in first or "[00" in first or " 0:" in first else 0
    )


def test_a_time_within_a_turn_stays(parse: Parse) -> None:
    got = parse("Client: Up at 6:00, then\n7:30 was late: for me\nTherapist: At 23:15?")
    assert got.messages == [("user", "Up at 6:00, then\n7:30 was late: for me"), ("assistant", "At 23:15?")]


@pytest.mark.parametrize(
    ("user", "assistant"), [("Q", "A"), ("C", "T"), ("问", "答"), ("Question", "Answer"), ("P", "T")]
)
def test_speakers_by_a_letter(parse: Parse, user: str, assistant: str) -> None:
    got = parse(f"{user}: a\n{assistant}: b\n{user}: c\n{assistant}: d")
    assert got.messages == [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]


def test_letters_in_a_talk_of_named_speakers_are_a_list(parse: Parse) -> None:
    got = parse("Client: which\nTherapist: two ways\nA: stay\nB: go\nClient: go")
    assert got.messages[1] == ("assistant", "two ways\nA: stay\nB: go")


def test_of_two_speakers_one_known_the_other_is_the_other_side(parse: Parse) -> None:
    got = parse("Therapist: a\nSarah: b\nTherapist: c\nSarah: d")
    assert got.messages == [("assistant", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]
    assert (got.metadata, got.repaired) == (
        {"speakers": {"Therapist": "assistant", "Sarah": "user"}},
        {"assumed_roles": 1},
    )


def test_numbered_speakers_take_turns(parse: Parse) -> None:
    got = parse("Speaker 1: a\nSpeaker 2: b\nSpeaker 1: c")
    assert got.messages == [("user", "a"), ("assistant", "b"), ("user", "c")]


def test_an_unknown_speaker_in_a_one_line_dialogue_is_separated(parse: Parse, refuse: Refuse) -> None:
    text = "Doctor: How is it? Patient: Bad. Doctor: Why? Mum: He fell. Doctor: Oh. Mum: Yes."
    assert refuse({"dialogue": text}).error_class == "unknown_role"


def test_an_opening_that_lost_its_tag_is_a_turn_of_the_other_side(parse: Parse) -> None:
    got = parse({"dialogue": "How are you today? Patient: Tired. Doctor: I see."})
    assert got.messages == [("assistant", "How are you today?"), ("user", "Tired."), ("assistant", "I see.")]
    assert got.repaired == {"inline_speakers": 2, "assumed_roles": 1}
    assert parse({"dialogue": "Any allergies Patient: No."}).messages == [
        ("assistant", "Any allergies"),
        ("user", "No."),
    ]
    got = parse({"dialogue": "Session 3 Patient: a Doctor: b"})
    assert (got.messages, got.metadata) == ([("user", "a"), ("assistant", "b")], {"header": ["Session 3"]})


def test_a_chinese_dialogue_on_one_line(parse: Parse) -> None:
    got = parse({"dialogue": "来访者：我很累。心理咨询师：多久了？来访者：一年。"})
    assert got.messages == [("user", "我很累。"), ("assistant", "多久了？"), ("user", "一年。")]


def test_a_tag_at_the_end_only_asks_for_the_next_turn(parse: Parse) -> None:
    got = parse("Client: a\nTherapist: b\n\nClient:\n")
    assert (got.messages, got.repaired) == ([("user", "a"), ("assistant", "b")], {"open_turns": 1})


def test_who_opens_other_lines_is_cut_off_behind_a_sentence(parse: Parse) -> None:
    got = parse("Doctor: a?\nPatient: No. Doctor: b? Patient: c\nDoctor: d; patient: e")
    turns = [("assistant", "a?"), ("user", "No."), ("assistant", "b?"), ("user", "c")]
    assert got.messages == [*turns, ("assistant", "d; patient: e")]
    assert got.repaired == {"inline_speakers": 2}
    got = parse("来访者：a。心理咨询师：b！\n来访者：c\n心理咨询师：d")
    assert [role for role, _ in got.messages] == ["user", "assistant", "user", "assistant"]


def test_mentions_of_speakers_are_not_cut(parse: Parse) -> None:
    text = "I wrote Doctor: twice. Note: this. Nurse: never came."
    got = parse(f"Client: {text}\nDoctor: b")
    assert got.messages == [("user", text), ("assistant", "b")]


def test_a_lower_case_speaker_without_line_ends(parse: Parse) -> None:
    got = parse({"dialogue": "Doctor: You had a patient: a. Doctor: b? Patient: Yes, doctor: c. goal: d"})
    turns = [("assistant", "You had a"), ("user", "a."), ("assistant", "b?")]
    assert got.messages == [*turns, ("user", "Yes, doctor: c. goal: d")]
    got = parse({"dialogue": "Doctor: my patient: a. Client: b"})
    assert got.messages == [("assistant", "my patient: a."), ("user", "b")]


def test_metadata_distinguishes_speakers_who_share_a_role(parse: Parse) -> None:
    got = parse("Doctor: a\nPatient: b\nGuest_family: c\ndoctor: d")
    assert [role for role, _ in got.messages] == ["assistant", "user", "user", "assistant"]
    assert got.metadata == {"turn_speakers": ["Doctor", "Patient", "Guest_family", "doctor"]}
    got = parse({"dialogue": "a? Patient: b Doctor: c Nurse: d Doctor:"})
    assert got.metadata == {"turn_speakers": [None, "Patient", "Doctor", "Nurse"]}
    assert parse("Doctor: a\nPatient: b\nPATIENT: c").metadata == {}
