"""What makes two rows the same: the id of a record, and the hash of what was said."""

from collections.abc import Iterable
import unicodedata

import xxhash

from pixel_pipeline.conversations.records import Message


def record_id(*, key: str, position: int, sub_index: int | None = None, member: str | None = None) -> str:
    """Names a conversation by where it stands: xxh3-128, 32 hex digits, of `<key>[#!<member>]#<position>[#<sub index>]`.

    `%` and `#` within the key and the member are percent-escaped first, so that no two places share a name.
    """
    key = _escaped(key) if member is None else f"{_escaped(key)}#!{_escaped(member)}"
    place = f"{key}#{position}" if sub_index is None else f"{key}#{position}#{sub_index}"
    return xxhash.xxh3_128_hexdigest(place.encode("utf-8", "surrogatepass"))


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("#", "%23") if "#" in name or "%" in name else name


def content_hash(messages: Iterable[Message]) -> str:
    """Hashes what was said: xxh3-128, 32 hex digits.

    Contents are brought to NFC, runs of whitespace become one space, ends are stripped. Each turn is framed
    as `<role>:<length in code points>:<content>`, so that no two different conversations have one framing.
    """
    framed = []
    for role, content in messages:
        if not content.isascii():
            content = unicodedata.normalize("NFC", content)
        content = " ".join(content.split())
        framed.append(f"{role}:{len(content)}:{content}")
    return xxhash.xxh3_128_hexdigest("".join(framed).encode())
