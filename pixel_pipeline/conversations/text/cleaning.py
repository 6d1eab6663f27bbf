"""Detection of text encodings, decoding, and removal of unwanted characters."""

import codecs
import re
from typing import NamedTuple

from pixel_pipeline.conversations.model.records import ObjectError, count
from pixel_pipeline.conversations.text.encodings import legacy_encoding, utf16_without_mark, western_encoding
from pixel_pipeline.conversations.text.markup import without_markup, without_mojibake

SAMPLE_BYTES = 4 << 20
"""Size of the sample on which the encoding is decided."""

# \t and \n stay. \r is treated as a line end; \x80-\x9f are C1 controls, never text.
_C0 = bytes(b for b in range(32) if b not in b"\t\n") + b"\x7f"
# Joiners stay: emoji and words of some languages contain them.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("\r\n?|\x85")
CONTROL_BYTES = bytes(b for b in range(32) if b not in b"\t\n\r") + b"\x7f"
_HIGH = re.compile("[\ud800-\udfff]+|[^\x00-\x7f\ud800-\udfff]+")
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
# cp1252 leaves five bytes undefined; as latin-1 they are control characters, which `clean` removes and counts.
_CP1252 = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(256))


def clean(content: str, repaired: dict[str, int]) -> str:
    r"""Return text with \n as the only line end, without control characters, broken surrogates and markup.

    Args:
        content: Text of one turn.
        repaired: Counts changed characters as `lone_surrogates`, `line_ends`, `control_characters` and
            `invisible_characters`, and the repairs of `markup`.
    """
    # Text is nearly always clean. A few scans at memory speed find that out; a regular expression over each character would
    # take as long as parsing the JSON.
    try:
        encoded = content.encode()
    except UnicodeEncodeError:
        content, n = _SURROGATE.subn("\ufffd", content)
        count(repaired, "lone_surrogates", n)
        encoded = content.encode()
    if len(encoded.translate(None, _C0)) != len(encoded):
        content, n = _LINE_END.subn("\n", content)
        count(repaired, "line_ends", n)
        content, n = _CONTROL.subn("", content)
        count(repaired, "control_characters", n)
    if len(encoded) != len(content):
        content = _clean_beyond_ascii(content, encoded, repaired)
    if "&" in content or "<" in content:
        content = without_markup(content, repaired)
    return content


def _clean_beyond_ascii(content: str, encoded: bytes, repaired: dict[str, int]) -> str:
    # UTF-8 of U+0080 to U+00BF starts with 0xc2: C1 controls, soft hyphens, and most characters of mojibake.
    if b"\xc2" in encoded or "\u00c3" in content or ("\u00e2" in content and "\u20ac" in content):
        # Mojibake first: its second characters may be C1 controls.
        content = without_mojibake(content, repaired)
        content, n = _LINE_END.subn("\n", content)
        count(repaired, "line_ends", n)
        content, n = _CONTROL.subn("", content)
        count(repaired, "control_characters", n)
    elif not ("\u200b" in content or "\ufeff" in content or "\u2060" in content):
        return content
    content, n = _INVISIBLE.subn("", content)
    count(repaired, "invisible_characters", n)
    return content


class Encoding(NamedTuple):
    """The encoding of an object's text.

    Attributes:
        name: Python's name of it: "utf-8", "utf-16" (with mark), "utf-16-le", "utf-16-be", "utf-32", "cp1252" or another one
            from `encodings`.
        why: The evidence for it.
    """

    name: str
    why: str


def detect_encoding(sample: bytes) -> Encoding:
    """Detect the encoding of an object's text.

    A byte order mark decides. Otherwise the text is UTF-8, and records that are not valid UTF-8 are quarantined one by one,
    unless the sample as a whole shows another encoding: one bad line must not change the encoding of a file, and a Western
    single-byte file must not lose each line with an accent. A single-byte encoding needs at least three bad lines, or more
    than half of all lines, with bad bytes that look Western.

    Args:
        sample: The first SAMPLE_BYTES of the object, or all of it.
    """
    if sample.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return Encoding("utf-32", "its byte order mark")
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Encoding("utf-16", "its byte order mark")
    if (wide := utf16_without_mark(sample)) is not None:
        return Encoding(wide, "nearly every other byte is zero")
    if sample.isascii():
        return Encoding("utf-8", "ASCII alone")
    # The end of the sample may split a character.
    if _is_utf8(sample, cut=len(sample) >= SAMPLE_BYTES):
        return Encoding("utf-8", "valid UTF-8")
    lines = [line for line in sample.split(b"\n") if line and not line.isspace()]
    if len(sample) >= SAMPLE_BYTES and len(lines) > 1:
        lines.pop()  # the sample may end within it
    bad = sum(not _is_utf8(line) for line in lines)
    if not bad:
        return Encoding("utf-8", "valid UTF-8")
    share = f"{bad:,} of its first {len(lines):,} lines are not UTF-8"
    if not (bad >= 3 or bad > 0.5 * len(lines)):
        return Encoding("utf-8", f"{share}, too few for another encoding")
    text = b"\n".join(lines)
    if _looks_western(text):
        name = western_encoding(text)
    else:
        # A few lines may be valid UTF-8 by accident, but not many.
        strange = bad >= 0.5 * sum(not line.isascii() for line in lines)
        name = legacy_encoding(text) if strange else None
    if name is None:
        return Encoding("utf-8", f"{share}, and it is plain text in no other encoding")
    return Encoding(name, f"{share}, and it is plain text in {name}")


def decode_document(data: bytes, repaired: dict[str, int]) -> str:
    """Decode an object that is a single text.

    A single line of Western single-byte text is enough evidence here, because the whole object would be lost otherwise.

    Raises:
        ObjectError: `undecodable`.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if _looks_western(data):
            encoding = western_encoding(data) or "cp1252"
            count(repaired, encoding, 1)
            return decode_cp1252(data) if encoding == "cp1252" else data.decode(encoding, "replace")
        reason = f"neither UTF-8 (first bad byte at {error.start}) nor Western single-byte text"
        raise ObjectError("undecodable", reason) from None


def decode_cp1252(data: bytes) -> str:
    """Decode cp1252, with latin-1 for its five undefined bytes. Every input decodes."""
    return codecs.charmap_decode(data, "strict", _CP1252)[0]


def _is_utf8(data: bytes, *, cut: bool = False) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", not cut)
    except UnicodeDecodeError:
        return False
    return True


def _looks_western(data: bytes) -> bool:
    """Whether bytes that are not UTF-8 look like Western single-byte text.

    Western text has hardly any valid UTF-8 above 0x7f, and its high bytes stand alone or in pairs, as accented letters do,
    without 0xfe and 0xff. Other encodings and damaged UTF-8 have longer runs.
    """
    high = _HIGH.findall(data.decode("utf-8", "surrogateescape"))
    valid = sum(len(run) for run in high if run[0] < "\ud800" or run[0] > "\udfff")
    invalid = sum(map(len, high)) - valid
    runs = _HIGH_RUN.findall(data)
    western = sum(len(run) <= 2 and not (b"\xfe" in run or b"\xff" in run) for run in runs)
    return valid <= 0.05 * (valid + invalid) and western >= 0.7 * len(runs)
