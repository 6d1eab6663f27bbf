"""Thoughts before answers are separated in every format."""

from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.model.records import Parsed

Parse = Callable[[Any], Parsed]


@pytest.mark.parametrize(
    "answer",
    ["<think>\nhm\n</think>\n\nYes.", "hm</think>Yes.", "<thinking>hm</thinking> Yes.", "<reasoning>hm</reasoning><answer>Yes.</answer>"],
)  # fmt: skip
def test_a_thought_in_an_answer(parse: Parse, answer: str) -> None:
    got = parse({"prompt": "q", "response": answer})
    assert (got.messages, got.reasoning) == ([("user", "q"), ("assistant", "Yes.")], "hm")


@pytest.mark.parametrize(
    "answer", ["<think>only this</think>", "a < b", "<think>no end", "He wrote </reasoning> there"]
)
def test_texts_that_are_not_thoughts(parse: Parse, answer: str) -> None:
    got = parse({"prompt": "q", "response": answer})
    assert (got.messages[1][1], got.reasoning) == (answer, None)


def test_earlier_thoughts_are_kept_by_turn(parse: Parse) -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>one</think>b"},
        {"role": "user", "content": "<think>mine</think>c"},
        {"role": "assistant", "content": "d", "reasoning_content": "two", "n": 1},
    ]
    got = parse({"messages": turns})
    assert [content for _, content in got.messages] == ["a", "b", "<think>mine</think>c", "d"]
    assert got.reasoning == "two"
    assert got.metadata == {"earlier_reasoning": {"1": "one"}, "turn_extras": [None, None, None, {"n": 1}]}
