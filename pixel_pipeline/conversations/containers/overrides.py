"""What a rule says of an object's container and encoding, held against its content: an override decides where content is open
to doubt, and is refused where it cannot be."""

import codecs
import re

from pixel_pipeline.conversations.containers.opened import Input
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
# What has to stand in a text for a container to find one record in it.
_NEEDED = {
    "json_lines": (re.compile(rb"(?m)^[ \t]*[{\[]"), "no line opens an object or an array"),
    "json_array": (re.compile(rb"\A\s*\["), "it does not begin with an array"),
    "json_document": (re.compile(rb"\A\s*[{\[]"), "it begins with neither an object nor an array"),
}


def mismatch(said: str, found: str) -> ObjectError:
    """Returns the error of an override that cannot be."""
    return ObjectError("override_mismatch", f"the rule in families.yaml says {said}, but {found}")


def refuse_container(name: str, given: Input) -> None:
    """Refuses a container of text that would not find one record.

    Raises:
        ObjectError: `override_mismatch`.
    """
    needed, otherwise = _NEEDED.get(name, (None, ""))
    if needed is not None and needed.search(given.head) is None:
        raise mismatch(f"container: {name}", otherwise)


def refuse_encoding(encoding: str, sample: bytes) -> None:
    """Refuses an encoding that a text is plainly not in. A line that is not UTF-8 is the matter of that line alone.

    Args:
        encoding: Python's name of it.
        sample: First bytes of the text.

    Raises:
        ObjectError: `override_mismatch`.
    """
    said = f"encoding: {encoding}"
    marked = next((name for mark, name in _MARKS if sample.startswith(mark)), None)
    if marked is not None:
        if not encoding.startswith(marked):
            raise mismatch(said, f"it begins with the byte order mark of {marked}")
        return
    if encoding.startswith(WIDE) and b"\0" not in sample:
        raise mismatch(said, "it holds not one zero byte")
    if encoding == "utf-8":
        return
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    if (bad := text.count("\ufffd")) > _MOST_UNDECODABLE * len(text):
        raise mismatch(said, f"{bad:,} of its first {len(text):,} characters are none in it")
