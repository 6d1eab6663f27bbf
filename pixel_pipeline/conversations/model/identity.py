"""What makes two rows the same: the id of a record, and the hash of what was said."""

from collections.abc import Sequence
from itertools import pairwise
import unicodedata

import numpy as np
import xxhash

from pixel_pipeline.conversations.model.columns import Ints, Texts, texts_of, unsettled
from pixel_pipeline.conversations.model.records import Message

_FRAME = np.dtype([("role", "u1"), ("size", "<u4")])
ROLE_CODES = {"system": 0, "user": 1, "assistant": 2, "tool": 3}


def record_id(*, key: str, position: int, sub_index: int | None = None, member: str | None = None) -> str:
    """Names a conversation by where it stands: xxh3-128, 32 hex digits, of `<key>[#!<member>]#<position>[#<sub index>]`.

    `%` and `#` within the key and the member are percent-escaped first, so that no two places share a name.
    """
    place = f"{_place(key, member)}#{position}" + ("" if sub_index is None else f"#{sub_index}")
    return xxhash.xxh3_128_hexdigest(place.encode("utf-8", "surrogatepass"))


def record_ids(*, key: str, positions: Sequence[int], member: str | None = None) -> list[str]:
    """`record_id` of many conversations of one object."""
    prefix = _place(key, member).encode("utf-8", "surrogatepass")
    return [xxhash.xxh3_128_hexdigest(b"%b#%d" % (prefix, position)) for position in positions]


def _place(key: str, member: str | None) -> str:
    return _escaped(key) if member is None else f"{_escaped(key)}#!{_escaped(member)}"


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("#", "%23") if "#" in name or "%" in name else name


def content_hash(messages: Sequence[Message]) -> str:
    """Hashes what was said: xxh3-128, 32 hex digits, over the role and size of each turn, then the contents in NFC.

    Roles (1 byte) and sizes (UTF-8 bytes, 4 bytes, little-endian) frame the contents, so that no two different conversations
    are hashed over the same bytes. Copies that differ in white space have other hashes; which copies are too many, curation
    decides.
    """
    roles = np.array([ROLE_CODES[role] for role, _ in messages], np.uint8)
    return content_hashes(
        roles, texts_of([content for _, content in messages]), bounds=np.array([0, len(messages)])
    )[0]


def content_hashes(roles: np.typing.NDArray[np.uint8], texts: Texts, *, bounds: Ints) -> list[str]:
    """`content_hash` of many conversations.

    Args:
        roles: ROLE_CODES of all turns.
        texts: Contents of all turns.
        bounds: First turn of each conversation, and the number of turns.
    """
    frames = np.empty(len(roles), _FRAME)
    frames["role"], frames["size"] = roles, np.diff(texts.offsets)
    framed, said = frames.tobytes(), texts.data.data
    turns, edges = (bounds * _FRAME.itemsize).tolist(), texts.offsets[bounds].tolist()
    digest = xxhash.xxh3_128_hexdigest
    hashes = [
        digest(b"".join((framed[first:last], said[start:end])))
        for (first, last), (start, end) in zip(pairwise(turns), pairwise(edges), strict=True)
    ]
    odd = np.searchsorted(bounds, np.flatnonzero(unsettled(texts)), side="right") - 1
    for index in np.unique(odd).tolist():
        start, end = bounds[index : index + 2].tolist()
        contents = [composed(text) for text in texts.array[start:end].to_pylist()]
        own = frames[start:end].copy()
        own["size"] = [len(content) for content in contents]
        hashes[index] = digest(own.tobytes() + b"".join(contents))
    return hashes


def composed(content: str) -> bytes:
    """A text in NFC, as UTF-8."""
    return unicodedata.normalize("NFC", content).encode()
