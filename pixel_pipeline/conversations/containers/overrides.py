"""Checks of a rule's container and encoding against the object's content.

An override decides doubtful cases and is refused if it contradicts the content.
"""

import codecs
import re

from pixel_pipeline.conversations.containers.container import Input
from pixel_pipeline.conversations.model.records import ObjectError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16", "utf-32")
_MOST_UNDECODABLE = 0.01
# Pattern that a text must contain for a container to find a record in it.
_NEEDED = {
    "json_lines": (re.compile(rb"(?m)^[ \t]*[{\[]"), "no line opens an object or an array"),
    "json_array": (re.compile(rb"\A\s*\["), "it does not begin with an array"),
    "json_document": (re.compile(rb"\A\s*[{\[]"), "it begins with neither an object nor an array"),
}


def mismatch(setting: str, found: str) -> ObjectError:
    """Return the error for an override that contradicts the content."""
    return ObjectError("override_mismatch", f"the rule in families.yaml says {setting}, but {found}")


def refuse_container(name: str, given: Input) -> None:
    """Refuse a container of text that would not find a single record.

    Raises:
        ObjectError: `override_mismatch`.
    """
    needed, otherwise = _NEEDED.get(name, (None, ""))
    if needed is not None and needed.search(given.head) is None:
        raise mismatch(f"container: {name}", otherwise)


def refuse_encoding(encoding: str, sample: bytes) -> None:
    """Refuse an encoding that a text is plainly not in. A line that is not UTF-8 is handled as a bad record.

    Args:
        encoding: Python's name of it.
        sample: First bytes of the text.

    Raises:
        ObjectError: `override_mismatch`.
    """
    setting = f"encoding: {encoding}"
    marked = next((name for mark, name in _MARKS if sample.startswith(mark)), None)
    if marked is not None:
        if not encoding.startswith(marked):
            raise mismatch(setting, f"it begins with the byte order mark of {marked}")
        return
    if encoding.startswith(WIDE) and b"\0" not in sample:
        raise mismatch(setting, "it contains no zero byte")
    if encoding == "utf-8":
        return
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    if (bad := text.count("\ufffd")) > _MOST_UNDECODABLE * len(text):
        raise mismatch(setting, f"{bad:,} of its first {len(text):,} characters are invalid in it")
