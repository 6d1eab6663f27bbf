"""Which texts can be keys of objects."""

import re

from pixel_pipeline.lake.s3.errors import KeyNameError

KEY_BYTES = 1024


def checked_key(key: str) -> str:
    """Return the key. Raises KeyNameError for one that the client or a store would refuse or, worse, silently change."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        size = -1
    parts = key.split("/")
    for wrong, reason in (
        (not key, "it is empty"),
        (size < 0, "it is not Unicode text"),
        (size > KEY_BYTES, f"it has {size:,} bytes, and {KEY_BYTES:,} are the limit"),
        # A listing, which is XML, cannot contain them.
        (re.search(r"[\x00-\x1f\x7f\ufffe\uffff]", key), "it has control characters or noncharacters"),
        ("" in parts, "it has an empty part (`//`, or a slash at an end)"),
        ("\\" in key, "it has a backslash, which some stores read as a slash; separate folders with `/`"),
        ("." in parts or ".." in parts, "it has a part `.` or `..`"),
    ):
        if wrong:
            shown = ascii(key)
            shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
            raise KeyNameError(f"{shown} cannot be an object's key: {reason}.")
    return key
