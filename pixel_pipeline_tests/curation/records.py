"""Canonical conversations made of short texts, for curation and what follows it."""

import hashlib
import random
from typing import Any

import pyarrow as pa

from pixel_pipeline.conversations.model.identity import content_hash
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA
from pixel_pipeline.curation.curate import CURATED_SCHEMA
from pixel_pipeline.curation.splits import split_of

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


def record(
    *turns: tuple[str, str], key: str = "gdrive/raw/f/a.jsonl", position: int = 0, family: str = "f"
) -> dict[str, Any]:
    """One row of CONVERSATION_SCHEMA."""
    return {
        "id": hashlib.md5(f"{key}#{position}".encode(), usedforsecurity=False).hexdigest(),
        "messages": [{"role": role, "content": text} for role, text in turns],
        "category": family,
        "family": family,
        "dataset": family,
        "source": {
            "bucket": "b",
            "key": key,
            "etag": "e",
            "position": position,
            "position_kind": "record",
            "format": "chatml",
        },
        "content_hash": content_hash(turns),
        "language": None,
        "tags": [],
        "reasoning": None,
        "metadata": "{}",
    }


def dialogue(seed: int, *, words: int = 30) -> tuple[tuple[str, str], tuple[str, str]]:
    """A question and an answer, unlike those of any other seed."""
    generator = random.Random(seed)
    question, answer = (" ".join(generator.choices(WORDS, k=words)) for _ in range(2))
    return ("user", f"{question} {seed}?"), ("assistant", f"{answer}.")


def table(records: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(records, schema=CONVERSATION_SCHEMA)


def curated(conversations: int, *, families: tuple[str, ...] = ("calm", "sleep")) -> pa.Table:
    """A curated table of unlike conversations, spread over families."""
    rows = [
        record(*dialogue(number), position=number, family=families[number % len(families)])
        for number in range(conversations)
    ]
    return pa.Table.from_pylist(
        [{**row, "split": split_of(row["content_hash"])} for row in rows], schema=CURATED_SCHEMA
    )
