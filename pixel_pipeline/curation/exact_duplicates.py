"""When two conversations say the same: in white space and in the composition of letters copies often differ."""

from collections.abc import Iterable, Mapping

import xxhash

from pixel_pipeline.conversations.model.identity import composed

_WHITE = bytes(range(0x21))


def spoken_digest(messages: Iterable[Mapping[str, str]]) -> bytes:
    """Digest (16 bytes, xxh3-128) of what is said by whom: equal for copies that differ in white space or composition alone.

    Args:
        messages: `role` and `content` of each turn.
    """
    digest = xxhash.xxh3_128()
    for message in messages:
        said = composed("".join(message["content"].split())).translate(None, _WHITE)
        digest.update(b"%b:%d:" % (message["role"].encode(), len(said)))
        digest.update(said)
    return digest.digest()
