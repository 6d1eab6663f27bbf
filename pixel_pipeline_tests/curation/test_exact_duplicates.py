"""Exact duplicates are found despite different white space."""

from hypothesis import given
from hypothesis import strategies as st

from pixel_pipeline.curation.exact_duplicates import spoken_digest

Messages = list[tuple[str, str]]
MESSAGES = st.lists(
    st.tuples(st.sampled_from(["user", "assistant"]), st.text("ab:1 \n\u3000\u00a0", max_size=6)), max_size=4
)


def digest(messages: Messages) -> bytes:
    return spoken_digest({"role": role, "content": content} for role, content in messages)


def test_white_space_and_composition_make_no_difference() -> None:
    assert digest([("user", " caf\u00e9\u00a0 au\nlait\u3000")]) == digest([("user", "cafe\u0301 au lait")])
    assert digest([("user", "a")]) != digest([("assistant", "a")])


@given(MESSAGES, MESSAGES)
def test_any_other_difference_changes_the_digest(first: Messages, second: Messages) -> None:
    def without_space(messages: Messages) -> Messages:
        return [(role, "".join(content.split())) for role, content in messages]

    assert (digest(first) == digest(second)) == (without_space(first) == without_space(second))
