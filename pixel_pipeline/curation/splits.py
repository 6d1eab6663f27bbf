"""Split assignment as a pure function of a conversation's content.

A conversation stays in its split forever, whatever is added or removed. Near duplicates are dropped first, so no split contains
a copy of another split's conversation.
"""

VALIDATION_PERCENT = 4
TEST_PERCENT = 4
SPLITS = ("train", "validation", "test")


def split_of(content_hash: str) -> str:
    """Return `train`, `validation` or `test` for a hexadecimal content hash."""
    bucket = int(content_hash[-8:], 16) % 100
    if bucket < VALIDATION_PERCENT:
        return "validation"
    return "test" if bucket < VALIDATION_PERCENT + TEST_PERCENT else "train"
