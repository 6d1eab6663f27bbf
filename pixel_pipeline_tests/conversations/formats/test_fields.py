"""alpaca, pair, chain_of_thought: formats with a field for each part."""

from collections.abc import Callable
from typing import Any

import pytest

from pixel_pipeline.conversations.formats.fields import describe_key, describe_keys, key_names
from pixel_pipeline.conversations.model.records import Parsed, RecordError

Parse = Callable[[Any], Parsed]
Refuse = Callable[[Any], RecordError]


def test_alpaca(parse: Parse) -> None:
    assert parse({"instruction": "i", "input": "", "output": "o"}).messages == [
        ("user", "i"),
        ("assistant", "o"),
    ]
    got = parse(
        {"instruction": "i", "input": "x", "response": "o", "system": "s", "history": [["p", "q"]], "id": 1}
    )
    assert got.messages == [
        ("system", "s"),
        ("user", "p"),
        ("assistant", "q"),
        ("user", "i\n\nx"),
        ("assistant", "o"),
    ]
    assert got.metadata == {"id": 1}


def test_chain_of_thought_becomes_reasoning(parse: Parse) -> None:
    got = parse({"Question": "q", "Complex_CoT": "think", "Response": "r", "lang": "en"})
    assert (got.messages, got.reasoning) == ([("user", "q"), ("assistant", "r")], "think")
    assert got.metadata == {"lang": "en"}
    got = parse({"instruction": "i", "input": "x", "cot": "", "output": "o"})
    assert (got.messages[0], got.reasoning) == (("user", "i\n\nx"), None)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("prompt", "response"), ("question", "answer"), ("Context", "Response"), ("input", "output"), ("Q", "A"),
     ("query", "response"), (" Question ", "ANSWER")],
)  # fmt: skip
def test_pair(parse: Parse, asked: str, answered: str) -> None:
    got = parse({asked: "x", answered: "y", "label": "1"})
    assert got.messages == [("user", "x"), ("assistant", "y")]
    assert got.metadata == {"label": "1"}


@pytest.mark.parametrize(
    "history",
    [
        [["p", "q"]],
        [{"query": "p", "response": "q"}],
        [{"role": "user", "content": "p"}, {"role": "assistant", "content": "q"}],
    ],
)
def test_history_comes_first(parse: Parse, history: Any) -> None:
    got = parse({"query": "x", "response": "y", "history": history})
    assert got.messages == [("user", "p"), ("assistant", "q"), ("user", "x"), ("assistant", "y")]


@pytest.mark.parametrize("history", ["said", [1], [["a"]], [["a", None]], [{"query": "a"}], {"a": 1}])
def test_a_bad_history(refuse: Refuse, history: Any) -> None:
    assert refuse({"query": "x", "response": "y", "history": history}).error_class == "bad_history"


def test_an_answer_that_is_not_text(refuse: Refuse) -> None:
    assert refuse({"question": "x", "answer": None}).error_class == "not_text"
    assert refuse({"instruction": "x", "output": ["a"]}).error_class == "not_text"


def test_only_identifiers_are_named_in_a_list_of_keys() -> None:
    assert (
        describe_keys({"b": 1, "a": 2, "I said so": 3, "x" * 40: 4}) == "the keys a, b and 2 not named here"
    )
    assert describe_keys("said") == "a text"
    many = describe_keys({f"k{n:03}": n for n in range(100)})
    assert many.endswith("and 80 not named here")


def test_the_first_of_two_keys_that_differ_in_case_wins() -> None:
    assert key_names({"Text": 1, "text": 2, " TEXT": 3}) == {"text": "Text"}


def test_only_an_identifier_is_named_as_a_key() -> None:
    assert describe_key("Response") == "`Response`"
    assert describe_key("what I said") == "a key of 11 characters"


DIALOGUES = {
    "Be kind.\n\nDialogue:\nClient: a\nTherapist: b\nClient: c\nTherapist:": "d\nTherapist: e",
    "Be kind.\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:": "d\ne",
    "Be kind.\n\n对话：\n来访者：a\n医生：b\n来访者：c\n医生：": "d\n医生：e",
    "<|system|>Be kind.</s><|user|>\na</s><|assistant|>\nb</s><|user|>\nc</s>\n<|assistant|>": "d\ne",
}


@pytest.mark.parametrize(
    ("asked", "answered"), [("instruction", "output"), ("prompt", "completion"), ("query", "response")]
)
@pytest.mark.parametrize("prompt", DIALOGUES)
def test_a_prompt_that_contains_a_dialogue(parse: Parse, asked: str, answered: str, prompt: str) -> None:
    got = parse({asked: prompt, answered: DIALOGUES[prompt]})
    assert got.messages == [
        ("system", "Be kind."),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d\ne"),
    ]


@pytest.mark.parametrize(
    "prompt",
    ["Client: a\nTherapist: b", "What is it:", "A: a\nNote:", "Client: a\nMum: b\nMum: c\nTherapist:"],
)
def test_a_prompt_that_is_not_an_open_dialogue(parse: Parse, prompt: str) -> None:
    assert parse({"prompt": prompt, "response": "b"}).messages == [("user", prompt), ("assistant", "b")]
