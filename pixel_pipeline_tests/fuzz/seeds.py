"""First inputs: the beginnings of the sample Drive's files, and some random records for each kind of file."""

from collections.abc import Iterator
from pathlib import Path
import random
import tempfile

from pixel_pipeline.sample.drive import write_sample_drive
from pixel_pipeline_tests.conversations.containers.packed.test_office import excel, paragraph, word
from pixel_pipeline_tests.fuzz.target import KINDS, structured

CHOSEN = 10
"""Number of inputs of each kind whose bytes choose records, and of inputs that are used unchanged."""
_LONGEST = 6_000
_SAMPLE_KINDS = {
    ".jsonl": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".txt": "txt",
    ".parquet": "parquet",
    ".gz": "gz",
}


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yield the kind and the bytes of each input, always the same ones."""
    for number, kind in enumerate(KINDS):
        chance = random.Random(kind)
        for _ in range(CHOSEN):
            choices = chance.randbytes(chance.randint(20, 400))
            yield kind, bytes([number, 1]) + choices
            yield kind, bytes([number, 0]) + structured(choices, KINDS[kind])
    yield "xlsx", _as_it_is("xlsx", excel([["Q", "A"], ["a", "b"]], [["x", 1.5]]))
    yield "zip", _as_it_is("zip", word(paragraph("Therapist: a") + paragraph("Client: b")))
    with tempfile.TemporaryDirectory() as folder:
        write_sample_drive(Path(folder), conversations=150)
        for path in sorted(Path(folder).rglob("*")):
            kind = _SAMPLE_KINDS.get(path.suffix)
            if path.is_file() and kind is not None:
                data = path.read_bytes()
                whole = kind in ("parquet", "gz")
                yield kind, _as_it_is(kind, data if whole else data[:_LONGEST])


def _as_it_is(kind: str, data: bytes) -> bytes:
    return bytes([list(KINDS).index(kind), 0]) + data
