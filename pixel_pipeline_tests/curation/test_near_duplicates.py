"""Near duplicates against an oracle that compares sets of five-word shingles pairwise."""

from itertools import pairwise
import random
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.curation.near_duplicates import NearDuplicateIndex
from pixel_pipeline_tests.examples import examples

Words = list[str]
MIN_WORDS = 60


def _jaccard(left: Words, right: Words) -> float:
    first, second = (
        set(zip(*(words[start:] for start in range(5)), strict=False)) for words in (left, right)
    )
    return len(first & second) / len(first | second)


def _edited(words: Words, *, edits: int, generator: random.Random) -> Words:
    """Replace, insert or delete some words."""
    words = words.copy()
    for number in range(edits):
        place = generator.randrange(len(words))
        kind = generator.randrange(3)
        words[place : place + (kind != 1)] = [] if kind == 2 else [f"edit{number}"]
    return words


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Words, Words]:
    """Two long texts with a similarity on either side of the threshold."""
    generator = random.Random(draw(st.integers(0, 2**32)))
    words = [f"w{generator.randrange(2000)}" for _ in range(draw(st.integers(MIN_WORDS, 600)))]
    return words, _edited(words, edits=draw(st.integers(1, max(2, len(words) // 30))), generator=generator)


@given(pair=pairs())
@examples(60)
def test_a_pair_is_judged_by_its_true_similarity(pair: tuple[Words, Words]) -> None:
    """Well above the threshold, banding misses one pair in 100,000; below it, no pair is ever dropped."""
    left, right = pair
    truth = _jaccard(left, right)
    index = NearDuplicateIndex()
    assert index.add(7, " ".join(left)) is None
    twin = index.add(9, " ".join(right))
    if twin is not None:
        assert truth >= 0.8
        assert twin.kept == 7
        assert twin.similarity == pytest.approx(truth)
    else:
        assert truth < 0.85


def test_only_near_duplicates_are_found_among_many_texts() -> None:
    generator = random.Random(11)
    originals = [[f"w{generator.randrange(3000)}" for _ in range(200)] for _ in range(150)]
    index = NearDuplicateIndex()
    assert all(index.add(number, " ".join(words)) is None for number, words in enumerate(originals))
    near = far = 0
    for number, words in enumerate(originals):
        copy = _edited(words, edits=generator.randrange(1, 10), generator=generator)
        truth, twin = _jaccard(words, copy), index.add(1000 + number, " ".join(copy))
        if truth >= 0.85:
            near += 1
            assert twin is not None
            assert twin.kept == number
        elif truth < 0.8:
            far += 1
            assert twin is None
    assert near > 30
    assert far > 30


def test_a_chain_never_collapses() -> None:
    """In a~b~c~d … each is similar to its neighbours; a kept text displaces only texts similar to itself."""
    words = [f"w{number}" for number in range(400)]
    chain = [words[start : start + 200] for start in range(0, 200, 15)]
    assert all(_jaccard(left, right) > 0.8 for left, right in pairwise(chain))
    index = NearDuplicateIndex()
    twins = [index.add(number, " ".join(link)) for number, link in enumerate(chain)]
    kept = [number for number, twin in enumerate(twins) if twin is None]
    assert kept == list(range(0, len(chain), 2))
    for number, twin in enumerate(twins):
        if twin is not None:
            assert twin.kept in kept
            assert _jaccard(chain[number], chain[twin.kept]) >= 0.8


def test_the_most_similar_of_several_is_returned() -> None:
    words = [f"w{number}" for number in range(400)]
    index = NearDuplicateIndex()
    assert index.add(0, " ".join(words[:300])) is None
    assert index.add(1, " ".join(words[36:336])) is None
    twin = index.add(2, " ".join(words[20:320]))
    assert twin is not None
    assert twin.kept == 1


@pytest.mark.parametrize(
    "first", [0x4E00, 0x3042, 0xAC00, 0x0E01, 0x20000], ids=["han", "kana", "hangul", "thai", "han-extension"]
)
def test_scripts_without_spaces_are_compared_by_character(first: int) -> None:
    generator = random.Random(first)
    letters = [chr(first + generator.randrange(40)) for _ in range(400)]
    changed = [*letters[:200], chr(first + 41), *letters[201:]]
    index = NearDuplicateIndex()
    assert index.add(0, "".join(letters)) is None
    twin = index.add(1, "".join(changed))
    assert twin is not None
    assert twin.similarity == pytest.approx(_jaccard(letters, changed))
    assert index.add(2, "".join(generator.sample(letters, len(letters)))) is None


def test_decomposed_accents_make_no_difference() -> None:
    text = " ".join(f"café{number} été dès où naïve" for number in range(40))
    index = NearDuplicateIndex()
    assert index.add(0, text) is None
    twin = index.add(1, unicodedata.normalize("NFD", text))
    assert twin is not None
    assert twin.similarity == 1.0


def test_vowel_signs_make_a_difference() -> None:
    """In Indic scripts they are marks, not letters, but they distinguish words."""
    index = NearDuplicateIndex()
    signs = "\u093e\u093f\u0940\u0941\u0942\u0947\u0948\u094b\u094c"
    generator = random.Random(3)
    for number in range(3):
        text = " ".join("\u0915" + generator.choice(signs) + "\u0928" for _ in range(200))
        assert index.add(number, text) is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Hello\nI am here", "Hello\nI am there"),
        ("\U0001f642\n\U0001f44d", "\U0001f622\n\U0001f494"),
        ("I feel \U0001f642\ngood", "I feel \U0001f622\ngood"),
        ("...", "!?"),
        ("\u5bc2\u3057\u3044", "\u697d\u3057\u3044"),
        ("one two three four five", "one two three four six"),
    ],
    ids=["words", "emoji", "one-emoji", "punctuation", "japanese", "five-words"],
)
def test_short_texts_are_equal_or_different(left: str, right: str) -> None:
    index = NearDuplicateIndex()
    assert index.add(0, left) is None
    assert index.add(1, right) is None
    for number, text in enumerate((left, right)):
        twin = index.add(2 + number, f" {text.upper()}\n")
        assert twin is not None
        assert twin.kept == number
        assert twin.similarity == 1.0


@given(texts=st.lists(st.text(max_size=60), max_size=8))
@examples(40)
def test_any_text_is_accepted_and_its_repetition_found(texts: list[str]) -> None:
    index = NearDuplicateIndex()
    for number, text in enumerate(texts):
        index.add(number, text)
    for number, text in enumerate(texts):
        twin = index.add(100 + number, text)
        assert twin is not None
        assert twin.kept < 100
