"""Invented material to measure with: same seed, same bytes. Words are made of syllables, so nothing in it was ever said."""

from collections.abc import Callable, Iterator
import csv
from dataclasses import dataclass
import io
from itertools import accumulate, islice
import json
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

SYLLABLES = [
    onset + vowel
    for onset in ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w"]
    for vowel in "aeiou"
]
VOCABULARY = 20_000
DISTINCT_RECORDS = 8_000
CHUNK_BYTES = 8 * 1024**2


def texts(rng: Random) -> Callable[[], str]:
    """A source of texts of 10 to 90 words, about 300 bytes each.

    Words are drawn with the frequencies of a language (1/rank), so that they compress as text does; some hold accents,
    typographic quotes and line breaks, which parsers pay for.
    """
    words = ["".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3, 3, 4)))) for _ in range(VOCABULARY)]
    for number in range(0, VOCABULARY, 50):
        words[number] += rng.choice(("é", "’s", "ü", "—", ".\n", ' "so"'))
    frequencies = [*accumulate(1 / rank for rank in range(1, VOCABULARY + 1))]

    def text() -> str:
        return " ".join(rng.choices(words, cum_weights=frequencies, k=rng.randint(10, 90)))

    return text


def records(count: int = DISTINCT_RECORDS, *, seed: int = 7) -> list[dict[str, Any]]:
    """Conversations of the length and shape of counselling data, about 2.5 kB each."""
    rng = Random(seed)
    text = texts(rng)
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
    return _repeated(size, _many(size), head=b"", separator=b"\n", tail=b"")


def json_array(size: int) -> Repeated:
    """One JSON array of about `size` bytes."""
    tail = b'{"id": "last", "messages": []}\n]\n'
    return _repeated(size, _many(size), head=b"[\n", separator=b",\n", tail=tail)


def sharegpt_lines(size: int) -> Repeated:
    """ShareGPT conversations as a JSON Lines file of about `size` bytes."""
    return _repeated(size, _many_sharegpt(size), head=b"", separator=b"\n", tail=b"")


def sharegpt_array(size: int) -> Repeated:
    """ShareGPT conversations as one JSON array of about `size` bytes."""
    (last,) = islice(sharegpt(seed=8), 1)
    return _repeated(
        size, _many_sharegpt(size), head=b"[\n", separator=b",\n", tail=_encoded(last) + b"\n]\n"
    )


def sharegpt_long_line(size: int) -> Repeated:
    """A ShareGPT conversation of about `size` bytes on a line of its own; usual ones, two before it and one behind it."""
    first, second, behind = (_encoded(record) + b"\n" for record in islice(sharegpt(), 3))
    turns = [turn for record in islice(sharegpt(seed=8), _distinct(size)) for turn in record["conversations"]]
    block = _encoded(turns)[1:-1] + b","
    times = max(1, round(size / len(block)))
    return Repeated(
        head=first + second + b'{"id": "long", "conversations": [',
        block=block,
        times=times,
        tail=b'{"from": "gpt", "value": "goodbye"}]}\n' + behind,
        count=4,
    )


def _repeated(
    size: int, values: list[dict[str, Any]], *, head: bytes, separator: bytes, tail: bytes
) -> Repeated:
    lines = [_encoded(value) + separator for value in values]
    block = b"".join(lines)
    times = max(1, round(size / len(block)))
    return Repeated(
        head=head, block=block, times=times, tail=tail, count=times * len(lines) + (1 if tail else 0)
    )


def _distinct(size: int) -> int:
    # A file smaller than one block of distinct records holds fewer of them.
    return max(1, min(DISTINCT_RECORDS, size // 2_500))


def _many(size: int) -> list[dict[str, Any]]:
    return records(_distinct(size))


def _many_sharegpt(size: int) -> list[dict[str, Any]]:
    return [*islice(sharegpt(), _distinct(size))]


def sharegpt(seed: int = 7) -> Iterator[dict[str, Any]]:
    """ShareGPT conversations without end, about 2.5 kB each."""
    rng = Random(seed)
    text = texts(rng)
    number = 0
    while True:
        yield {
            "id": f"conversation-{number:08}",
            "conversations": [
                {"from": speaker, "value": text()}
                for _ in range(rng.randint(2, 6))
                for speaker in ("human", "gpt")
            ],
        }
        number += 1


def thoughts(seed: int = 7) -> Iterator[dict[str, Any]]:
    """Questions with a chain of thought and a response, without end, about 2.5 kB each."""
    rng = Random(seed)
    text = texts(rng)
    while True:
        yield {
            "Question": text(),
            "Complex_CoT": "\n\n".join(text() for _ in range(rng.randint(2, 6))),
            "Response": "\n\n".join(text() for _ in range(rng.randint(1, 4))),
        }


def rows(seed: int = 7) -> Iterator[bytes]:
    """CSV rows of a question and an answer with line breaks in it, without end, about 2 kB each."""
    rng = Random(seed)
    text = texts(rng)
    row = io.StringIO()
    writer = csv.writer(row, lineterminator="\n")
    while True:
        writer.writerow([text(), "\n\n".join(text() for _ in range(rng.randint(2, 8)))])
        yield row.getvalue().removesuffix("\n").encode()
        row.seek(0)
        row.truncate()


class Kind(NamedTuple):
    """A kind of file: its records by seed, what stands before the first, between two, and behind the last."""

    records: Callable[[int], Iterator[bytes]]
    head: bytes
    separator: bytes
    tail: bytes


KINDS = {
    "sharegpt.jsonl": Kind(lambda seed: map(_encoded, sharegpt(seed)), b"", b"\n", b"\n"),
    "sharegpt.json": Kind(lambda seed: map(_encoded, sharegpt(seed)), b"[\n", b",\n", b"\n]\n"),
    "thoughts.jsonl": Kind(lambda seed: map(_encoded, thoughts(seed)), b"", b"\n", b"\n"),
    "answers.csv": Kind(rows, b"question,answer\n", b"\n", b"\n"),
}


def write_file(path: Path, kind: Kind, *, size: int, seed: int = 7) -> int:
    """Write a file of about `size` bytes in which no record comes twice. Returns how many it holds."""
    with path.open("wb") as file:
        file.write(kind.head)
        for number, record in enumerate(kind.records(seed)):
            file.write(kind.separator + record if number else record)
            if file.tell() + len(kind.tail) >= size:
                file.write(kind.tail)
                return number + 1
    raise AssertionError("records do not end")


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
