"""The registry of source formats: how one record becomes turns.

A format is a module with `NAME`, `matches(record) -> bool` (structure only, cheap, never raises) and `convert(record) -> Parsed`
(raises RecordError for a record of that structure that is bad). FORMATS are tried in order and the first match converts, so
specific formats come first. To add one: write its module, add it here, write its test.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from pixel_pipeline.conversations.formats import posts
from pixel_pipeline.conversations.formats.fields import describe_key, describe_keys, first_key, key_names
from pixel_pipeline.conversations.formats.questions import alpaca, chain_of_thought, pair, preference
from pixel_pipeline.conversations.formats.texts import inline_tags, subtitles, transcript
from pixel_pipeline.conversations.formats.thoughts import separate_thoughts
from pixel_pipeline.conversations.formats.turn_lists import (
    alternating,
    chatml,
    message_groups,
    sharegpt,
    turns,
)
from pixel_pipeline.conversations.model.records import Parsed, RecordError


class Format(NamedTuple):
    """One source format: its name, whether a record has its structure, and how such a record is parsed."""

    name: str
    matches: Callable[[Any], bool]
    parse: Callable[[Any], Parsed]

    def convert(self, record: Any) -> Parsed:
        """Convert a record, separating thoughts from answers."""
        return separate_thoughts(self.parse(record))


FORMATS: tuple[Format, ...] = tuple(
    Format(module.NAME, module.matches, module.convert)
    for module in (
        sharegpt,
        chatml,
        turns,
        message_groups,
        preference,  # before all others with a prompt
        chain_of_thought,  # before pair: it also has a question and an answer
        alpaca,  # before pair: it may have `input` and `output`
        pair,
        posts,
        inline_tags,  # before transcript: an answer may quote a dialogue
        subtitles,
        transcript,
        alternating,
    )
)

_BY_NAME = {source_format.name: (source_format,) for source_format in FORMATS}


def find_format(record: Any, *, only: str | None = None) -> Format | None:
    """Return the first format whose structure a record has, or None.

    Args:
        only: Name of the one format to try.
    """
    for source_format in FORMATS if only is None else _BY_NAME[only]:
        if source_format.matches(record):
            return source_format
    return None


def refusal(record: Any) -> RecordError:
    """Explain why no format takes a record: `no_turns` if its list of turns is empty, else `unrecognised_schema`."""
    key = first_key(key_names(record), chatml.LISTS) if isinstance(record, dict) else None
    if key is not None and record[key] == []:
        return RecordError("no_turns", f"the list under {describe_key(key)} is empty")
    return RecordError("unrecognised_schema", f"no format matches {describe_keys(record)}")
