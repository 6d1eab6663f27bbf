"""chatml, sharegpt, turns, alternating: formats with a list of turns."""

from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.model.records import Parsed, RecordError

Parse = Callable[[Any], Parsed]
Refuse = Callable[[Any], RecordError]


def test_chatml_keeps_other_keys_as_metadata(parse: Parse) -> None:
    turns = [{"role": "client", "content": "a", "mood": "low"}, {"role": "Counselor", "content": "b"}]
    got = parse({"id": 5, "system_prompt": "s", "messages": turns})
    assert got.messages == [("system", "s"), ("user", "a"), ("assistant", "b")]
    assert got.metadata == {"id": 5, "turn_extras": [{"mood": "low"}, None]}


@pytest.mark.parametrize("role", ["role", "speaker", "sender", "author"])
@pytest.mark.parametrize("content", ["content", "text", "value", "utterance", "message"])
def test_chatml_spellings(parse: Parse, role: str, content: str) -> None:
    got = parse({"dialogue": [{role: "seeker", content: "a"}, {role: "supporter", content: "b"}]})
    assert got.messages == [("user", "a"), ("assistant", "b")]
    assert got.metadata == {}


def test_turns_may_differ_in_spelling(parse: Parse) -> None:
    got = parse(
        [{"role": "user", "content": "a"}, {"speaker": "bot", "text": "b"}, {"role": "user", "content": "c"}]
    )
    assert got.messages == [("user", "a"), ("assistant", "b"), ("user", "c")]


def test_content_in_parts(parse: Parse, refuse: Refuse) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert parse([{"role": "user", "content": parts}]).messages == [("user", "a\nb")]
    picture = [{"type": "image_url", "image_url": "x"}]
    assert refuse([{"role": "user", "content": picture}]).error_class == "not_text"


def test_sharegpt(parse: Parse) -> None:
    turns = [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    got = parse({"conversations": turns, "source": "x", "system": ""})
    assert got.messages == [("system", "s"), ("user", "a"), ("assistant", "b")]
    assert got.metadata == {"source": "x"}


@pytest.mark.parametrize(
    ("second", "error_class"),
    [
        ("text", "bad_turn"),
        ({"from": "gpt"}, "bad_turn"),
        ({"from": "narrator", "value": "x"}, "unknown_role"),
        ({"from": None, "value": "x"}, "unknown_role"),
        ({"from": "gpt", "value": 7}, "not_text"),
        ({"from": "gpt", "value": {"a": 1}}, "not_text"),
    ],
)
def test_a_bad_turn(refuse: Refuse, second: Any, error_class: str) -> None:
    error = refuse({"conversations": [{"from": "human", "value": "a"}, second]})
    assert error.error_class == error_class


def test_turns(parse: Parse, refuse: Refuse) -> None:
    exchanges = [
        {"system": "s", "input": "a", "output": "b"},
        {"system": "s", "input": "c", "output": "d", "k": 1},
    ]
    got = parse({"conversation": exchanges, "topic": "x"})
    assert got.messages == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ]
    assert got.metadata == {"topic": "x", "turn_extras": [None, {"k": 1}]}
    assert refuse({"conversation": [exchanges[0], {"input": "a"}]}).error_class == "bad_turn"


def test_alternating_says_that_roles_are_assumed(parse: Parse) -> None:
    got = parse(
        {"messages": [{"message": "a"}, {"message": "b", "attrs": [1]}, {"message": "c"}], "name": "x"}
    )
    assert got.messages == [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert got.repaired == {"assumed_roles": 1}
    assert got.metadata == {"name": "x", "turn_extras": [None, {"attrs": [1]}, None]}


def test_groups_of_messages_are_one_talk(parse: Parse) -> None:
    groups = [
        [{"sender": "7ab3c-1", "text": "a"}, {"sender": "7ab3c-1", "text": ""}],
        [{"sender": "person 2", "text": "b"}],
    ]
    groups[0][0]["sender"] = groups[0][1]["sender"] = "person 1"
    got = parse({"messages": groups, "topic": "x"})
    assert got.messages == [("user", "a"), ("assistant", "b")]
    assert got.metadata["topic"] == "x"
    assert got.metadata["speakers"] == {"person 1": "user", "person 2": "assistant"}
    assert got.repaired["blank_messages"] == 1


def test_two_anonymous_speakers_take_turns(parse: Parse, refuse: Refuse) -> None:
    turns = [{"speaker": n % 2, "text": f"{n}"} for n in range(3)]
    got = parse({"turns": turns})
    assert (got.messages, got.repaired) == (
        [("user", "0"), ("assistant", "1"), ("user", "2")],
        {"assumed_roles": 1},
    )
    assert (
        parse({"turns": [{"speaker": f"User {n}", "text": "x"} for n in (1, 2)]}).messages[1][0]
        == "assistant"
    )
    assert refuse({"turns": [{"speaker": n, "text": "x"} for n in range(3)]}).error_class == "unknown_role"
    assert (
        refuse({"turns": [{"speaker": name, "text": "x"} for name in ("Ann", "Ben")]}).error_class
        == "unknown_role"
    )
    assert refuse({"turns": [{"speaker": 1, "text": "x"}]}).error_class == "one_sided"


def test_a_model_by_its_name_answers(parse: Parse) -> None:
    got = parse({"conversations": [{"from": "human", "value": "a"}, {"from": "Mixer-7b", "value": "b"}]})
    assert got.messages == [("user", "a"), ("assistant", "b")]


def test_a_turn_into_which_the_other_side_is_glued_is_cut(parse: Parse) -> None:
    turns = [
        {"role": "client", "content": "我很累。支持者：多久了？求助者：两周。", "mood": "low"},
        {"role": "counselor", "content": "她说：\n求助者：例子"},
    ]
    got = parse(turns)
    assert got.messages == [
        ("user", "我很累。"),
        ("assistant", "多久了？"),
        ("user", "两周。"),
        ("assistant", "她说：\n求助者：例子"),
    ]
    assert got.metadata == {"turn_extras": [{"mood": "low"}, None, None, None]}
    assert got.repaired == {"inline_speakers": 2}


def test_metadata_distinguishes_speakers_who_share_a_role(parse: Parse) -> None:
    turns = [("user", "a"), ("gpt", "b"), ("function_call", "c"), ("tool", "d"), ("GPT", "e")]
    got = parse({"conversations": [{"from": speaker, "value": text} for speaker, text in turns]})
    assert [role for role, _ in got.messages] == ["user", "assistant", "assistant", "tool", "assistant"]
    assert got.metadata == {"turn_speakers": [speaker for speaker, _ in turns]}
    turns = [("client", "我很累。支持者：多久了？"), ("患者", "两周。"), ("counselor", "嗯。")]
    got = parse([{"role": speaker, "content": text} for speaker, text in turns])
    assert got.metadata == {"turn_speakers": ["client", "支持者", "患者", "counselor"]}
