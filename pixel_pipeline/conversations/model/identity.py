"""Which rows are the same: the id of a record and the hash of a conversation's content."""

from collections.abc import Sequence
from itertools import pairwise
import unicodedata

import numpy as np
import xxhash

from pixel_pipeline.conversations.model.columns import unsettled
from pixel_pipeline.conversations.model.records import Message
from pixel_pipeline.conversations.model.turns import Turns

_FRAME = np.dtype([("role", "u1"), ("size", "<u4")])


def record_id(*, key: str, position: int, sub_index: int | None = None, member: str | None = None) -> str:
    """Name a conversation by its place: xxh3-128, 32 hex digits, of `<key>[#!<member>]#<position>[#<sub index>]`.

    `%` and `#` in the key and the member are percent-escaped first, so that no two places share a name.
    """
    return record_ids(key=key, positions=[position], sub_indices=[sub_index], member=member)[0]


def record_ids(
    *,
    key: str,
    positions: Sequence[int],
    sub_indices: Sequence[int | None] | None = None,
    member: str | None = None,
) -> list[str]:
    """`record_id` of many conversations of one object."""
    names = (name.replace("%", "%25").replace("#", "%23") for name in (key, member) if name is not None)
    prefix = "#!".join(names).encode("utf-8", "surrogatepass")
    places = [b"%b#%d" % (prefix, position) for position in positions]
    if sub_indices is not None:
        pairs = zip(places, sub_indices, strict=True)
        places = [place if index is None else b"%b#%d" % (place, index) for place, index in pairs]
    return list(map(xxhash.xxh3_128_hexdigest, places))


def content_hash(messages: Sequence[Message]) -> str:
    """Hash a conversation: xxh3-128, 32 hex digits, over the role and size of each turn, then the contents in NFC.

    Roles (1 byte) and sizes (UTF-8 bytes, 4 bytes, little-endian) frame the contents, so that different conversations are never
    hashed over the same bytes. Copies that differ in white space have different hashes; curation finds those.
    """
    roles, contents = ([message[part] for message in messages] for part in (0, 1))
    return content_hashes(Turns.of([roles], [contents]))[0]


def content_hashes(turns: Turns) -> list[str]:
    """`content_hash` of many conversations."""
    frames = np.empty(len(turns.roles), _FRAME)
    frames["role"], frames["size"] = turns.roles, np.diff(turns.texts.offsets)
    framed, contents = frames.tobytes(), turns.texts.data.data
    framed_edges, edges = (
        (turns.bounds * _FRAME.itemsize).tolist(),
        turns.texts.offsets[turns.bounds].tolist(),
    )
    digest = xxhash.xxh3_128_hexdigest
    hashes = [
        digest(b"".join((framed[first:last], contents[start:end])))
        for (first, last), (start, end) in zip(pairwise(framed_edges), pairwise(edges), strict=True)
    ]
    for index in np.flatnonzero(turns.conversations_with(unsettled(turns.texts))).tolist():
        start, end = turns.bounds[index : index + 2].tolist()
        texts = [composed(text) for text in turns.texts.array[start:end].to_pylist()]
        own = frames[start:end].copy()
        own["size"] = [len(text) for text in texts]
        hashes[index] = digest(own.tobytes() + b"".join(texts))
    return hashes


def composed(content: str) -> bytes:
    """A text in NFC, as UTF-8."""
    return unicodedata.normalize("NFC", content).encode()
