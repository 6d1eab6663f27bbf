import pytest

from pixel_pipeline.conversations.formats.validation import validated
from pixel_pipeline.conversations.model.records import RecordError


def test_neighbours_of_one_role_are_joined_and_counted() -> None:
    repaired: dict[str, int] = {}
    turns = [
        ("system", "a"),
        ("system", "b"),
        ("user", "c"),
        ("assistant", "d"),
        ("assistant", "e"),
        ("assistant", "f"),
    ]
    assert validated(turns, repaired) == [("system", "a\nb"), ("user", "c"), ("assistant", "d\ne\nf")]
    assert repaired == {"joined_turns": 3}


def test_a_session_may_open_with_the_assistant_and_be_long() -> None:
    turns = [("assistant" if n % 2 == 0 else "user", f"{n}") for n in range(5001)]
    assert validated(turns, {}) == turns


@pytest.mark.parametrize(
    ("roles", "error_class"),
    [
        ([], "one_sided"),
        (["user"], "one_sided"),
        (["system", "assistant"], "one_sided"),
        (["user", "tool"], "one_sided"),
        (["user", "assistant", "system"], "misplaced_system"),
    ],
)
def test_turns_that_are_not_a_conversation(roles: list[str], error_class: str) -> None:
    with pytest.raises(RecordError) as caught:
        validated([(role, "x") for role in roles], {})
    assert caught.value.error_class == error_class


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u3000\u00a0"])
def test_a_blank_turn(blank: str) -> None:
    with pytest.raises(RecordError, match="turn 1 of 2"):
        validated([("user", "x"), ("assistant", blank)], {})
