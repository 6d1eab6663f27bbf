"""YAML: a corpus of conversations, split into records like a JSON document.

Every scalar stays text (`No` is an answer, not false). The text is parsed whole, so its size is limited; aliases and deep nesting,
which can make a small file huge, are refused.
"""

from collections.abc import Iterator
import re
from typing import Any

import yaml

from pixel_pipeline.conversations.containers.container import Evidence, Input
from pixel_pipeline.conversations.containers.json.json_document import records_of
from pixel_pipeline.conversations.formats.texts.transcript import speaker_share
from pixel_pipeline.conversations.model.records import Fault, ObjectError, Record
from pixel_pipeline.conversations.text.cleaning import decode_document

NAME = "yaml_document"
POSITION_KIND = "record"
IS_TEXT = True
MAX_BYTES = 64 << 20
_MAX_DEPTH = 50
_LIST = re.compile(
    rb"(?m)^[ \t]{0,4}(?:conversations|messages|dialogues|dialogs|sessions|turns|examples|data):[ \t]*(?:#.*)?\r?\n(?:[ \t]*\r?\n)*[ \t]*- "
)
# Indented lines, because a dialogue may be a text of the corpus.
_INDENTED = re.compile(r"(?m)^[ \t-].*\n?")
_HEAD_BYTES = 16 << 10
_LOADER: type[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def matches(given: Input) -> Evidence:
    """Whether a key of conversations opens a YAML list. A transcript is YAML too, by accident."""
    head = given.head[:_HEAD_BYTES]
    if _LIST.search(head) is None:
        return Evidence(False, "no key of conversations opens a list")
    if (share := speaker_share(_INDENTED.sub("", head.decode("utf-8", "replace")))) >= 0.3:
        return Evidence(False, f"{share:.0%} of the first lines begin with a speaker")
    return Evidence(True, "a key of conversations opens a list")


def read(given: Input) -> Iterator[Record | Fault]:
    data = given.content.read_all(MAX_BYTES)
    try:
        text = decode_document(data, given.repaired)
        _refuse_bombs(text)
        document = yaml.load(text, Loader=_LOADER)  # noqa: S506 - constructs nothing but texts, lists and mappings
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        # The library's message quotes the text.
        raise ObjectError("bad_yaml", f"not valid YAML{where}") from None
    for position, (value, context) in enumerate(records_of(document)):
        yield Record(position, value, None, context)


def _refuse_bombs(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ObjectError("yaml_alias", "an alias: write out the value it refers to")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ObjectError("nesting_too_deep", f"YAML nested more than {_MAX_DEPTH} levels deep")
