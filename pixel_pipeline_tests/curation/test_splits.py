"""Splits are a pure function of content."""

from collections import Counter
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from pixel_pipeline.curation.splits import SPLITS, split_of


def test_shares_are_about_4_4_92() -> None:
    counts = Counter(
        split_of(hashlib.sha256(str(number).encode()).hexdigest()[:32]) for number in range(50_000)
    )
    assert set(counts) == set(SPLITS)
    assert 0.036 < counts["validation"] / 50_000 < 0.044
    assert 0.036 < counts["test"] / 50_000 < 0.044


@given(value=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_same_content_same_split(value: str) -> None:
    assert split_of(value) == split_of(value)
    assert split_of(value) in SPLITS


def test_splits_never_change() -> None:
    """A change would move held-out conversations into training."""
    assert split_of("0" * 32) == "validation"
    assert split_of(f"{4:032x}") == "test"
    assert split_of(f"{8:032x}") == "train"
    assert split_of(f"{103:032x}") == "validation"
