"""Words for messages."""

import pytest

from pixel_pipeline.words import counted, printable


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


def test_characters_that_do_not_print_are_escaped() -> None:
    assert printable("größe a\u202eb\x1b[31m\n\ud800") == "größe a\\u202eb\\x1b[31m\\n\\ud800"
