"""The format of a record, and the guarantees of the registry."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.conversations.formats.known import FORMATS, find_format, refusal

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
SHARED = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"messages": TURNS}, "chatml"),
        (TURNS, "chatml"),
        ({"history": TURNS, "agent": "x"}, "chatml"),
        ({"conversation": [{"speaker": "client", "text": "a"}]}, "chatml"),
        ({"conversations": SHARED}, "sharegpt"),
        (SHARED, "sharegpt"),
        ({"conversation": [{"system": "s", "input": "a", "output": "b"}]}, "turns"),
        ([{"system": "s", "input": "a", "output": "b"}], "turns"),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"instruction": "a", "response": "b"}, "alpaca"),
        ({"Question": "a", "Complex_CoT": "c", "Response": "b"}, "chain_of_thought"),
        ({"question": "a", "reasoning": "c", "answer": "b"}, "chain_of_thought"),
        ({"Context": "a", "Response": "b"}, "pair"),
        ({"Q": "a", "A": "b", "label": "0"}, "pair"),
        ({"query": "a", "response": "b", "history": []}, "pair"),
        ({"query": "a", "response": "b", "history": TURNS}, "pair"),
        ({"input": "a", "output": "b"}, "pair"),
        ({"id": "1", "Dialogue": "Doctor: a\nPatient: b"}, "transcript"),
        ("Therapist: a\nClient: b", "transcript"),
        (["求助者：a", "支持者：b"], "transcript"),
        ({"messages": [{"message": "a"}, {"message": "b", "attrs": []}]}, "alternating"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
            "preference",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"prompt": "a", "completion": "b", "label": False}, "preference"),
        ({"prompt": "a", "completion": "b", "label": "x"}, "pair"),
        ({"messages": [[{"sender": "x", "text": "a"}], [{"sender": "y", "text": "b"}]]}, "message_groups"),
        ({"messages": [[{"sender": "x", "text": "a"}, {"sender": "y", "text": "b"}]]}, None),
        ({"text": "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>"}, "inline_tags"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Therapist>a", "subtitles"),
        ({"title": "a", "selftext": "b", "top_comment": "c"}, "posts"),
        ({"title": "a", "content": "b"}, None),
        ({"dialog": ["a", "b", "c"], "emotion": [0, 0, 1]}, "alternating"),
        ({"dialogue": ["Client: a", "Therapist: b"]}, "transcript"),
        ({"text": "He said:\nHuman: a\nHuman: b\nand\nthen\nmore\nand\nmore"}, None),
        ({"text": "User: a\nAgent: b"}, "transcript"),
        ({"text": "User: a\nAgent: b", "role": "prompter"}, None),
        ({"prompt": TURNS, "response": "b"}, None),
        ({"prompt": "a", "answer1": "b", "answer2": "c"}, "preference"),
        ({"turns": ["a", "b"]}, None),
        ([{"role": "user", "text": "a", "parent_message_id": None}], None),
        ([{"author": "Jane Roe", "text": "a"}, {"author": "John Doe", "text": "b"}], None),
        (["Therapist: a\nClient: b", "Therapist: c\nClient: d"], None),
        ({}, None),
        ([], None),
        ("some prose", None),
        (None, None),
        (7, None),
    ],
)
def test_find_format(record: Any, name: str | None) -> None:
    found = find_format(record)
    assert (found.name if found else None) == name


def test_an_empty_list_of_turns_has_its_own_error() -> None:
    assert refusal({"conversation": [], "id": 1}).error_class == "no_turns"
    assert refusal({"conversation": 7}).error_class == "unrecognised_schema"
    assert refusal([]).error_class == "unrecognised_schema"


def test_names_are_unique() -> None:
    assert len({source_format.name for source_format in FORMATS}) == len(FORMATS) == 13


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["messages", "conversations", "role", "from", "value", "content", "text", "input", "output", "history", "Question", "q", "a", "prompt", "dialogue"]) | st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(json_values)
def test_matching_never_raises(record: Any) -> None:
    for source_format in FORMATS:
        assert source_format.matches(record) in (True, False)
