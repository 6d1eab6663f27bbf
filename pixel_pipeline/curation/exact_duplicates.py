"""Exact duplicates, up to white space and Unicode composition, in which copies often differ."""

from collections.abc import Iterable, Mapping

import xxhash

from pixel_pipeline.conversations.model.identity import composed

_WHITE = bytes(range(0x21))


def spoken_digest(messages: Iterable[Mapping[str, str]]) -> bytes:
    """Digest roles and contents to 16 bytes (xxh3-128), ignoring white space and Unicode composition.

    Args:
        messages: `role` and `content` of each turn.
    """
    digest = xxhash.xxh3_128()
    for message in messages:
        content = composed("".join(message["content"].split())).translate(None, _WHITE)
        digest.update(b"%b:%d:" % (message["role"].encode(), len(content)))
        digest.update(content)
    return digest.digest()
