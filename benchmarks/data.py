"""Generated test material: the same seed gives the same bytes. Words are random syllables, so no text is real."""

from collections.abc import Callable, Iterable, Iterator
import csv
from dataclasses import dataclass, replace
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
    """Return a generator function of texts of 10 to 90 words, about 300 bytes each.

    Words have the frequencies of a natural language (1/rank), so that they compress like text; some contain accents, typographic
    quotes and line breaks, which cost parsers time.
    """
    words = ["".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3, 3, 4)))) for _ in range(VOCABULARY)]
    for number in range(0, VOCABULARY, 50):
        words[number] += rng.choice(("é", "’s", "ü", "—", ".\n", ' "so"'))
    frequencies = [*accumulate(1 / rank for rank in range(1, VOCABULARY + 1))]

    def text() -> str:
        return " ".join(rng.choices(words, cum_weights=frequencies, k=rng.randint(10, 90)))

    return text


def records(count: int = DISTINCT_RECORDS, *, seed: int = 7) -> list[dict[str, Any]]:
    """Conversations with the length and shape of counselling data, about 2.5 kB each."""
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
    """A large virtual file: `head`, then `block` repeated `times` times, then `tail`; `count` is its number of records."""

    head: bytes
    block: bytes
    times: int
    tail: bytes
    count: int

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.head) + len(self.block) * self.times + len(self.tail)

    def read(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes [start, end) in pieces."""
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
        """Yield all bytes in pieces of CHUNK_BYTES."""
        for start in range(0, self.size, CHUNK_BYTES):
            yield b"".join(self.read(start, min(start + CHUNK_BYTES, self.size)))


def json_lines(size: int) -> Repeated:
    """A JSON Lines file of about `size` bytes."""
    return _repeated(size, records(_distinct(size)), separator=b"\n")


def json_array(size: int) -> Repeated:
    """One JSON array of about `size` bytes."""
    return _array(size, records(_distinct(size)), last={"id": "last", "messages": []})


def sharegpt_lines(size: int) -> Repeated:
    """ShareGPT conversations as a JSON Lines file of about `size` bytes."""
    return _repeated(size, islice(sharegpt(), _distinct(size)), separator=b"\n")


def sharegpt_array(size: int) -> Repeated:
    """ShareGPT conversations as one JSON array of about `size` bytes."""
    return _array(size, islice(sharegpt(), _distinct(size)), last=next(sharegpt(seed=8)))


def sharegpt_long_line(size: int) -> Repeated:
    """A ShareGPT conversation of about `size` bytes on one line, between three of usual size."""
    first, second, last = (_encoded(record) + b"\n" for record in islice(sharegpt(), 3))
    turns = [turn for record in islice(sharegpt(seed=8), _distinct(size)) for turn in record["conversations"]]
    block = _encoded(turns)[1:-1] + b","
    times = max(1, round(size / len(block)))
    return Repeated(
        head=first + second + b'{"id": "long", "conversations": [',
        block=block,
        times=times,
        tail=b'{"from": "gpt", "value": "goodbye"}]}\n' + last,
        count=4,
    )


def _repeated(size: int, values: Iterable[dict[str, Any]], *, separator: bytes) -> Repeated:
    lines = [_encoded(value) + separator for value in values]
    block = b"".join(lines)
    times = max(1, round(size / len(block)))
    return Repeated(head=b"", block=block, times=times, tail=b"", count=times * len(lines))


def _array(size: int, values: Iterable[dict[str, Any]], *, last: dict[str, Any]) -> Repeated:
    elements = _repeated(size, values, separator=b",\n")
    return replace(elements, head=b"[\n", tail=_encoded(last) + b"\n]\n", count=elements.count + 1)


def _distinct(size: int) -> int:
    """Number of distinct records in a file: small files have fewer than a whole block."""
    return max(1, min(DISTINCT_RECORDS, size // 2_500))


def sharegpt(seed: int = 7) -> Iterator[dict[str, Any]]:
    """Endless ShareGPT conversations, about 2.5 kB each."""
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
    """Endless questions with a chain of thought and a response, about 2.5 kB each."""
    rng = Random(seed)
    text = texts(rng)
    while True:
        yield {
            "Question": text(),
            "Complex_CoT": "\n\n".join(text() for _ in range(rng.randint(2, 6))),
            "Response": "\n\n".join(text() for _ in range(rng.randint(1, 4))),
        }


def rows(seed: int = 7) -> Iterator[bytes]:
    """Endless CSV rows of a question and a multi-line answer, about 2 kB each."""
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
    """A kind of file: its records by seed, and the bytes before, between and after them."""

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
    """Write a file of about `size` bytes without repeated records. Returns the number of records."""
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
