"""Records of known and unknown shapes: meaningful keys with values of every kind."""

from typing import Any

from pixel_pipeline_tests.fuzz.choices import Choices

_ROLES = (
    "user",
    "assistant",
    "system",
    "human",
    "gpt",
    "Therapist",
    "client",
    "tool",
    "stranger",
    "来访者",
    "A",
    "B",
    "Speaker 1",
    None,
    7,
)
_ROLE_KEYS = ("role", "from", "speaker", "sender", "author", "name")
_TEXT_KEYS = ("content", "value", "text", "utterance", "message", "body")
_LIST_KEYS = (
    "messages",
    "conversations",
    "conversation",
    "dialogue",
    "turns",
    "history",
    "sessions",
    "data",
    "items",
    "comments",
    "replies",
)
_SHAPES = (
    ("instruction", "input", "output"), ("instruction", "output", "history"), ("prompt", "response"), ("prompt", "completion", "label"),
    ("Context", "Response"), ("Q", "A", "label"), ("query", "response", "history"), ("Question", "Complex_CoT", "Response"),
    ("prompt", "chosen", "rejected"), ("chosen", "rejected"), ("prompt", "answer1", "answer2", "winner"), ("title", "selftext", "comments"),
    ("title", "selftext", "top_comment"), ("text",), ("dialogue", "id"), ("id", "parent_id", "role", "text"),
    ("dialogue_id", "turn", "speaker", "utterance"), ("message_id", "parent_id", "role", "text", "rank"), ("prompt", "message_tree_id"),
    ("instruction", "instances"), ("system", "input", "output"), ("问题", "回答"), ("a", "b"),
)  # fmt: skip


def record(choices: Choices, depth: int = 0) -> Any:
    """Make a record of a known shape, a list of turns, a text, or any other value."""
    kind = choices.below(8)
    if kind <= 2:
        return {key: value(choices, depth + 1) for key in choices.one_of(_SHAPES)}
    if kind <= 4:
        return {choices.one_of(_LIST_KEYS): turns(choices, depth + 1), **_other_keys(choices, depth)}
    if kind == 5:
        return turns(choices, depth + 1)
    return choices.text() if kind == 6 else value(choices, depth)


def turns(choices: Choices, depth: int) -> list[Any]:
    """Make turns that mostly have the same keys."""
    role, text = choices.one_of(_ROLE_KEYS), choices.one_of(_TEXT_KEYS)
    found: list[Any] = []
    for _ in range(choices.below(6)):
        if choices.below(12) == 11:
            found.append(value(choices, depth + 1))
            continue
        found.append(
            {role: choices.one_of(_ROLES), text: choices.text(), **_other_keys(choices, depth)}
            if choices.below(10) < 9
            else {role: value(choices, depth + 1), text: value(choices, depth + 1)}
        )
    return found


def value(choices: Choices, depth: int) -> Any:
    """Make a text in most cases, else a number, a list, a mapping or null."""
    kind = choices.below(12)
    if kind <= 6 or depth > 4:
        return choices.text()
    if kind == 7:
        return choices.one_of((None, True, 0, -1, 1 << 70, 1.5, float("nan"), float("inf"), 1 << 63))
    if kind == 8:
        return turns(choices, depth + 1)
    if kind == 9:
        return [value(choices, depth + 1) for _ in range(choices.below(4))]
    if kind == 10:
        return {choices.text(): value(choices, depth + 1) for _ in range(choices.below(4))}
    return record(choices, depth + 1)


def _other_keys(choices: Choices, depth: int) -> dict[str, Any]:
    if depth > 3 or choices.below(3) < 2:
        return {}
    return {
        choices.one_of(
            (
                "id",
                "score",
                "rank",
                "replies",
                "system",
                "deleted",
                "lang",
                "reasoning_content",
                "parent_id",
                "conversation_id",
            )
        ): value(choices, depth + 1)
    }
