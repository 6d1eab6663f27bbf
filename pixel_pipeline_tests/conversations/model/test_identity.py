import unicodedata

from hypothesis import given
from hypothesis import strategies as st
import xxhash

from pixel_pipeline.conversations.model.identity import (
    content_hash,
    content_hashes,
    record_id,
)
from pixel_pipeline.conversations.model.turns import ROLE_CODES, Turns

messages = st.lists(
    st.tuples(st.sampled_from(["user", "assistant"]), st.text("ab:1 \n", max_size=6)), max_size=4
)


def test_hash_ignores_composition_only() -> None:
    assert content_hash([("user", "caf\u00e9 au lait")]) == content_hash([("user", "cafe\u0301 au lait")])
    assert content_hash([("user", "a")]) != content_hash([("assistant", "a")])
    assert content_hash([("user", "a b")]) != content_hash([("user", "a  b")])
    assert content_hash([("user", "a"), ("assistant", "b")]) != content_hash(
        [("user", "a"), ("assistant", "B")]
    )


@given(messages, messages)
def test_framing_is_unambiguous(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    assert (content_hash(first) == content_hash(second)) == (first == second)


def test_framing_of_a_turn_that_looks_like_two() -> None:
    assert content_hash([("user", "a"), ("user", "b")]) != content_hash([("user", "auser:1:b")])


def test_ids_of_different_places_differ() -> None:
    places = [("k", 1, 2), ("k#1", 2, None), ("k%231", 2, None), ("k", 1, None), ("k", 2, 1)]
    assert len({record_id(key=key, position=p, sub_index=s) for key, p, s in places}) == len(places)


def test_ids_are_stable() -> None:
    assert record_id(key="gdrive/raw/A/b.jsonl", position=7) == "67b2990ffc27cb7536d33088826b4c8d"
    assert content_hash([("user", "hello"), ("assistant", "hi")]) == "d86930fbb5cb3fe00a6cd0008c49076e"


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=12)), max_size=4))
)
def test_hashes_of_many_are_those_of_each(conversations: list[list[tuple[str, str]]]) -> None:
    try:
        turns = Turns.of(
            [[role for role, _ in conversation] for conversation in conversations],
            [[content for _, content in conversation] for conversation in conversations],
        )
    except UnicodeEncodeError:
        return
    expected = [
        xxhash.xxh3_128_hexdigest(
            b"".join(
                bytes([ROLE_CODES[role]]) + len(settled(content)).to_bytes(4, "little")
                for role, content in conversation
            )
            + b"".join(settled(content) for _, content in conversation)
        )
        for conversation in conversations
    ]
    assert content_hashes(turns) == expected


def settled(content: str) -> bytes:
    return unicodedata.normalize("NFC", content).encode()
