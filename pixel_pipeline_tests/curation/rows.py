"""Canonical and curated rows, and datasets of them in any order and any number of files."""

from collections.abc import Sequence
import json
from pathlib import Path
import random
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pixel_pipeline.conversations.model.identity import content_hash, record_id
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA
from pixel_pipeline.curation.curate import CURATED_SCHEMA
from pixel_pipeline.curation.splits import split_of

Row = dict[str, Any]
WORDS = [
    "breathe",
    "sleep",
    "worry",
    "friend",
    "morning",
    "quiet",
    "talk",
    "listen",
    "heavy",
    "light",
    "walk",
    "rest",
    "hope",
    "gentle",
    "week",
    "work",
    "home",
    "calm",
]


def row(*contents: str, key: str = "gdrive/raw/Calm/a.jsonl", position: int = 0, family: str = "calm") -> Row:
    """A conversation of user and assistant turns."""
    messages = [("assistant" if number % 2 else "user", content) for number, content in enumerate(contents)]
    return {
        "id": record_id(key=key, position=position),
        "messages": [{"role": role, "content": content} for role, content in messages],
        "category": family,
        "family": family,
        "dataset": family,
        "source": {
            "bucket": "b",
            "key": key,
            "etag": "e",
            "position": position,
            "position_kind": "byte",
            "format": "chatml",
        },
        "content_hash": content_hash(messages),
        "language": None,
        "tags": [],
        "reasoning": None,
        "metadata": json.dumps({"n": position}),
    }


def words(seed: int, *, n: int = 80) -> list[str]:
    """Random words, different for each seed."""
    generator = random.Random(seed)
    return [f"w{generator.randrange(5000)}" for _ in range(n)]


def dialogue(seed: int) -> tuple[str, str]:
    """A question and an answer, different for each seed."""
    generator = random.Random(seed)
    question, answer = (" ".join(generator.choices(WORDS, k=30)) for _ in range(2))
    return f"{question} {seed}?", f"{answer}."


def curated(conversations: int, *, families: tuple[str, ...] = ("calm", "sleep")) -> pa.Table:
    """A curated table of different conversations, spread over families."""
    rows = [
        row(*dialogue(number), position=number, family=families[number % len(families)])
        for number in range(conversations)
    ]
    return pa.Table.from_pylist(
        [{**item, "split": split_of(item["content_hash"])} for item in rows], CURATED_SCHEMA
    )


def dataset(rows: Sequence[Row]) -> ds.Dataset:
    """The rows in memory, in this order."""
    return ds.dataset(pa.Table.from_pylist(list(rows), CONVERSATION_SCHEMA))


def files(rows: Sequence[Row], folder: Path, *, n: int) -> ds.Dataset:
    """The rows in this order, spread over `n` files."""
    folder.mkdir()
    paths = []
    for number in range(n):
        paths.append(str(folder / f"{number}.parquet"))
        pq.write_table(pa.Table.from_pylist(list(rows[number::n]), CONVERSATION_SCHEMA), paths[-1])
    return ds.dataset(paths, schema=CONVERSATION_SCHEMA)
