"""Packing keeps every token in its segment and leaves little padding."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from pixel_pipeline.tokens.chat_template import PAD_ID, EncodedConversation
from pixel_pipeline.tokens.packing import PackedRows, pack

Piece = tuple[tuple[int, ...], tuple[int, ...]]


def _conversation(number: int, n_tokens: int) -> EncodedConversation:
    """A conversation of unique, increasing tokens."""
    tokens = np.arange(n_tokens, dtype=np.int32) + 1 + 1000 * number
    return EncodedConversation(tokens=tokens, loss_mask=(tokens % 3 > 0).astype(np.uint8))


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[EncodedConversation], int]:
    length = draw(st.integers(2, 24))
    sizes = draw(st.lists(st.integers(1, 60), max_size=30))
    return [_conversation(number, size) for number, size in enumerate(sizes)], length


def _expected(conversations: list[EncodedConversation], length: int) -> Counter[Piece]:
    """Each conversation cut after every `length`th token; the first token of a piece is not a target."""
    pieces: Counter[Piece] = Counter()
    for conversation in conversations:
        tokens, mask = conversation.tokens.tolist(), conversation.loss_mask.tolist()
        for start in range(0, len(tokens), length):
            end = start + length
            pieces[tuple(tokens[start:end]), (0, *mask[start + 1 : end])] += 1
    return pieces


def _segments(rows: PackedRows) -> Counter[Piece]:
    """The pieces in the rows, according to their segments."""
    found: Counter[Piece] = Counter()
    for tokens, mask, segments in zip(rows.tokens, rows.loss_mask, rows.segments, strict=True):
        for segment in range(1, segments.max() + 1):
            here = segments == segment
            found[tuple(tokens[here].tolist()), tuple(mask[here].tolist())] += 1
    return found


@given(corpus=corpora(), seed=st.integers(0, 3))
def test_every_token_is_packed_once_in_its_piece(
    corpus: tuple[list[EncodedConversation], int], seed: int
) -> None:
    conversations, length = corpus
    rows = pack(conversations, length=length, pad_id=PAD_ID, seed=seed)
    assert _segments(rows) == _expected(conversations, length)
    assert rows.token_count == sum(len(conversation.tokens) for conversation in conversations)
    assert rows.loss_token_count == sum(
        sum(mask) * n for (_, mask), n in _expected(conversations, length).items()
    )


@given(corpus=corpora())
def test_shapes_types_and_order_of_rows(corpus: tuple[list[EncodedConversation], int]) -> None:
    conversations, length = corpus
    rows = pack(conversations, length=length, pad_id=PAD_ID, seed=1)
    assert rows.tokens.shape == rows.loss_mask.shape == rows.segments.shape
    assert rows.tokens.shape[1] == length
    assert [a.dtype.name for a in (rows.tokens, rows.loss_mask, rows.segments)] == ["int32", "uint8", "int16"]
    for tokens, mask, segments in zip(rows.tokens, rows.loss_mask, rows.segments, strict=True):
        filled = int((segments > 0).sum())
        assert filled > 0
        # Segments are contiguous and numbered from 1; padding is at the end.
        assert segments[0] == 1
        assert set(np.diff(segments[:filled]).tolist()) <= {0, 1}
        assert (tokens[filled:] == PAD_ID).all()
        assert not segments[filled:].any()
        assert not mask[filled:].any()
        starts = np.flatnonzero(np.diff(segments[:filled], prepend=0))
        assert not mask[starts].any()


@given(corpus=corpora())
def test_rows_are_well_filled(corpus: tuple[list[EncodedConversation], int]) -> None:
    """There are at most as many rows as pieces, and no two rows would fit into one."""
    conversations, length = corpus
    rows = pack(conversations, length=length, pad_id=PAD_ID, seed=0)
    assert len(rows.tokens) <= sum(_expected(conversations, length).values())
    filled = sorted((rows.segments > 0).sum(axis=1).tolist())
    assert len(filled) < 2 or filled[0] + filled[1] > length


def test_short_conversations_fill_the_gaps_of_long_ones() -> None:
    conversations = [_conversation(number, 3 if number < 10 else 7) for number in range(20)]
    assert len(pack(conversations, length=10, pad_id=PAD_ID, seed=0).tokens) == 10


def test_a_mixed_corpus_leaves_almost_no_padding() -> None:
    generator = np.random.default_rng(4)
    sizes = generator.integers(10, 900, size=400).tolist()
    rows = pack(
        [_conversation(number, size) for number, size in enumerate(sizes)], length=256, pad_id=PAD_ID, seed=0
    )
    assert rows.token_count / rows.tokens.size > 0.98


@given(corpus=corpora())
def test_the_same_input_gives_the_same_rows(corpus: tuple[list[EncodedConversation], int]) -> None:
    conversations, length = corpus
    first, second = (pack(conversations, length=length, pad_id=PAD_ID, seed=7) for _ in range(2))
    for name in ("tokens", "loss_mask", "segments"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_the_seed_shuffles_the_rows() -> None:
    conversations = [_conversation(number, 9 + number // 2) for number in range(80)]
    orders = {
        tuple(pack(conversations, length=50, pad_id=PAD_ID, seed=seed).tokens[:, 0].tolist())
        for seed in range(4)
    }
    assert len(orders) == 4
    assert len({tuple(sorted(order)) for order in orders}) == 1


@pytest.mark.parametrize("length", [8, 9, 10, 27, 28])
def test_a_long_conversation_is_split_not_truncated(length: int) -> None:
    rows = pack([_conversation(1, 27)], length=length, pad_id=PAD_ID, seed=0)
    assert len(rows.tokens) == -(-27 // length)
    assert sorted(rows.tokens[rows.segments > 0].tolist()) == _conversation(1, 27).tokens.tolist()


def test_an_empty_corpus_gives_no_rows() -> None:
    assert pack([], length=16, pad_id=PAD_ID, seed=0).tokens.shape == (0, 16)
