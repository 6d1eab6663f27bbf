"""Numbers with their nouns."""

import pytest

from pixel_pipeline.words import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "object", "1 object"),
        (0, "object", "0 objects"),
        (2345, "file", "2,345 files"),
        (2, "family", "2 families"),
        (2, "key", "2 keys"),
        (3, "batch", "3 batches"),
        (2, "quarantined record", "2 quarantined records"),
    ],
)
def test_counted(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
