"""Source formats: how one record becomes turns.

A format is a module with `NAME`, `matches(record) -> bool` (structure only, cheap, never raises) and
`convert(record) -> Parsed` (raises RecordError for a record that has the structure and is bad). FORMATS is
asked in order and the first match converts, so what is more specific stands first. To add one: write its
module, add it here, write its test.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from pixel_pipeline.conversations.formats import (
    alpaca,
    alternating,
    chain_of_thought,
    chatml,
    pair,
    sharegpt,
    transcript,
    turns,
)
from pixel_pipeline.conversations.records import Parsed


class Format(NamedTuple):
    """One source format: its name, whether a record has its structure, and the conversion."""

    name: str
    matches: Callable[[Any], bool]
    convert: Callable[[Any], Parsed]


FORMATS: tuple[Format, ...] = tuple(
    Format(module.NAME, module.matches, module.convert)
    for module in (
        sharegpt,
        chatml,
        turns,
        chain_of_thought,  # before pair: it has a question and an answer too
        alpaca,  # before pair: `input` and `output` are part of it
        pair,
        transcript,
        alternating,
    )
)


def find_format(record: Any) -> Format | None:
    """Returns the first format whose structure a record has; None where it has none."""
    for source_format in FORMATS:
        if source_format.matches(record):
            return source_format
    return None
