"""A conversation's split is a pure function of its content, 4 % validation, 4 % test."""

from collections import Counter
import random

from pixel_pipeline.curation.splits import SPLITS, split_of


def test_about_four_percent_are_held_out_twice() -> None:
    generator = random.Random(5)
    counts = Counter(split_of(f"{generator.getrandbits(128):032x}") for _ in range(50_000))
    assert set(counts) == set(SPLITS)
    assert 0.036 < counts["validation"] / 50_000 < 0.044
    assert 0.036 < counts["test"] / 50_000 < 0.044


def test_a_conversation_stays_in_its_split_for_ever() -> None:
    """Frozen answers: a changed rule would move held-out conversations into training."""
    assert split_of("0" * 32) == "validation"
    assert split_of("0" * 30 + "03") == "validation"
    assert split_of("0" * 30 + "04") == "test"
    assert split_of("0" * 30 + "07") == "test"
    assert split_of("0" * 30 + "08") == "train"
    assert split_of("9e107d9d372bb6826bd81d3542a419d6") == split_of("9e107d9d372bb6826bd81d3542a419d6")
    assert split_of("f" * 32) == "train"
