"""Invented material to measure with: same seed, same bytes. Words are made of syllables, so nothing in it was ever said."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
import json
from random import Random
from typing import Any

SYLLABLES = [
    onset + vowel
    for onset in ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w"]
    for vowel in "aeiou"
]
VOCABULARY = 20_000
DISTINCT_RECORDS = 8_000
CHUNK_BYTES = 8 * 1024**2


def records(count: int = DISTINCT_RECORDS, *, seed: int = 7) -> list[dict[str, Any]]:
    """Conversations of the length and shape of counselling data, about 2.5 kB each.

    Words are drawn with the frequencies of a language (1/rank), so that they compress as text does; some hold accents,
    typographic quotes and line breaks, which parsers pay for.
    """
    rng = Random(seed)
    words = ["".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3, 3, 4)))) for _ in range(VOCABULARY)]
    for number in range(0, VOCABULARY, 50):
        words[number] += rng.choice(("é", "’s", "ü", "—", ".\n", ' "so"'))
    frequencies = [*accumulate(1 / rank for rank in range(1, VOCABULARY + 1))]

    def text() -> str:
        return " ".join(rng.choices(words, cum_weights=frequencies, k=rng.randint(10, 90)))

    return [
        {
            "id": f"conversation-{number:08}",
            "messages": [
                {"role": role, "content": text()}
                for _ in range(rng.randint(2, 6))
                for role in ("user", "assistant")
            ],
            "source": "invented",
            "quality": number % 100 / 100,
        }
        for number in range(count)
    ]


@dataclass(frozen=True)
class Repeated:
    """A large file that need not exist: `head`, then `block` `times` over, then `tail`.

    `count` is how many records lie in it.
    """

    head: bytes
    block: bytes
    times: int
    tail: bytes
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.head) + len(self.block) * self.times + len(self.tail)

    def read(self, start: int, end: int) -> Iterator[memoryview]:
        """The bytes from `start` to before `end`, in pieces."""
        body_end = len(self.head) + len(self.block) * self.times
        while start < end:
            if start < len(self.head):
                piece = memoryview(self.head)[start:end]
            elif start < body_end:
                within = (start - len(self.head)) % len(self.block)
                piece = memoryview(self.block)[within : within + end - start]
            else:
                piece = memoryview(self.tail)[start - body_end : end - body_end]
            yield piece
            start += len(piece)

    def chunks(self) -> Iterator[bytes]:
        """All of it, in pieces of CHUNK_BYTES."""
        for start in range(0, self.size, CHUNK_BYTES):
            yield b"".join(self.read(start, min(start + CHUNK_BYTES, self.size)))


def json_lines(size: int) -> Repeated:
    """A JSON Lines file of about `size` bytes."""
    return _repeated(size, head=b"", separator=b"\n", tail=b"")


def json_array(size: int) -> Repeated:
    """One JSON array of about `size` bytes."""
    return _repeated(size, head=b"[\n", separator=b",\n", tail=b'{"id": "last", "messages": []}\n]\n')


def _repeated(size: int, *, head: bytes, separator: bytes, tail: bytes) -> Repeated:
    lines = [json.dumps(record, ensure_ascii=False).encode() + separator for record in _as_many(size)]
    block = b"".join(lines)
    times = max(1, round(size / len(block)))
    return Repeated(
        head=head, block=block, times=times, tail=tail, count=times * len(lines) + (1 if tail else 0)
    )


def _as_many(size: int) -> list[dict[str, Any]]:
    # A file smaller than one block of distinct records holds fewer of them.
    return records(max(1, min(DISTINCT_RECORDS, size // 2_500)))
