"""Which split a conversation belongs to: a pure function of its content.

The same conversation lands in the same split for ever, whatever else joins or leaves the lake. Near-copies are dropped
before, so no split holds a twin of another's conversation.
"""

VALIDATION_PERCENT = 4
TEST_PERCENT = 4
SPLITS = ("train", "validation", "test")


def split_of(content_hash: str) -> str:
    """`train`, `validation` or `test` from a content hash of hex digits."""
    bucket = int(content_hash[-8:], 16) % 100
    if bucket < VALIDATION_PERCENT:
        return "validation"
    return "test" if bucket < VALIDATION_PERCENT + TEST_PERCENT else "train"
