"""chatml, sharegpt, turns, alternating: formats with a list of turns."""

from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.records import Parsed, RecordError

Parse = Callable[[Any], Parsed]
Refuse = Callable[[Any], RecordError]


def test_chatml_keeps_what_there_is_besides(parse: Parse) -> None:
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
        ({"from": "nobody", "value": "x"}, "unknown_role"),
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
