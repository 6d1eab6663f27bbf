"""From bytes to clean text: which encoding, and what has to go."""

import codecs
import re

from pixel_pipeline.conversations.records import RecordError

SAMPLE_BYTES = 4 << 20
"""The encoding is decided on this much of an object."""

# \t and \n stay. \r is handled as a line end; \x80-\x9f are C1 controls, never text.
_DIRTY = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("\r\n?|\x85")
CONTROL_BYTES = bytes(b for b in range(32) if b not in b"\t\n\r") + b"\x7f"
_HIGH = re.compile("[\ud800-\udfff]+|[^\x00-\x7f\ud800-\udfff]+")
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
# cp1252 leaves five bytes undefined; as latin-1 they are control characters, which `clean` then removes and
# counts.
_CP1252 = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(256))


def clean(content: str, repaired: dict[str, int]) -> str:
    r"""Returns text with \n as the only line end, without control characters, without broken surrogates.

    Args:
        content: Text of one turn.
        repaired: Gets `line_ends` and `control_characters` and `lone_surrogates`: characters changed.
    """
    if _DIRTY.search(content) is None:
        return content
    content, n = _LINE_END.subn("\n", content)
    _count(repaired, "line_ends", n)
    content, n = _CONTROL.subn("", content)
    _count(repaired, "control_characters", n)
    content, n = _SURROGATE.subn("\ufffd", content)
    _count(repaired, "lone_surrogates", n)
    return content


def detect_encoding(sample: bytes) -> str:
    """Decides how an object's bytes become text.

    A byte order mark decides. Otherwise it is UTF-8, and what is not valid UTF-8 is quarantined record by
    record, unless the sample as a whole speaks against it: a single bad line must not turn a file into
    another encoding, and a Western single-byte file must not lose each line with an accent. So it is cp1252
    only where the bad lines are at least three or more than half of all lines, and what is bad about them
    looks Western.

    Args:
        sample: The first SAMPLE_BYTES of the object, or all of it.

    Returns:
        "utf-8", "utf-16" or "cp1252".
    """
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not sample.startswith(
        codecs.BOM_UTF32_LE
    ):
        return "utf-16"
    if sample.isascii() or _is_utf8(sample):
        return "utf-8"
    lines = [line for line in sample.split(b"\n") if line and not line.isspace()]
    if len(sample) >= SAMPLE_BYTES and len(lines) > 1:
        lines.pop()  # cut by the sample's end, possibly within a character
    bad = sum(not _is_utf8(line) for line in lines)
    enough = bad >= 3 or bad > 0.5 * len(lines)
    return "cp1252" if bad and enough and _looks_western(b"\n".join(lines)) else "utf-8"


def decode_document(data: bytes, repaired: dict[str, int]) -> str:
    """Decodes an object that is one single text.

    Here the unit that would be lost is the object, so a single line of Western single-byte text is reason
    enough for cp1252.

    Raises:
        RecordError: `undecodable`.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if _looks_western(data):
            _count(repaired, "cp1252", 1)
            return decode_cp1252(data)
        reason = f"neither UTF-8 (first bad byte at {error.start}) nor Western single-byte text"
        raise RecordError("undecodable", reason) from None


def decode_cp1252(data: bytes) -> str:
    """Decodes cp1252, with latin-1 for the five bytes it leaves undefined. Every input decodes."""
    return codecs.charmap_decode(data, "strict", _CP1252)[0]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _looks_western(data: bytes) -> bool:
    """Whether bytes that are not UTF-8 look like Western single-byte text.

    Hardly a character above 0x7f is valid UTF-8, which Western text is only by accident; and the high bytes
    stand alone or in pairs, as accented letters among ASCII do, without 0xfe and 0xff: other encodings and
    damaged UTF-8 come in runs.
    """
    high = _HIGH.findall(data.decode("utf-8", "surrogateescape"))
    valid = sum(len(run) for run in high if run[0] < "\ud800" or run[0] > "\udfff")
    invalid = sum(map(len, high)) - valid
    runs = _HIGH_RUN.findall(data)
    western = sum(len(run) <= 2 and not (b"\xfe" in run or b"\xff" in run) for run in runs)
    return valid <= 0.05 * (valid + invalid) and western >= 0.7 * len(runs)


def _count(counts: dict[str, int], kind: str, n: int) -> None:
    if n:
        counts[kind] = counts.get(kind, 0) + n
