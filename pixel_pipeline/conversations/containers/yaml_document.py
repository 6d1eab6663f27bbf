"""YAML: a corpus of conversations, taken apart as a JSON document is.

Every scalar is kept as the text it is (`No` is an answer, not false). Read whole, so it is limited in size; anchors and
deep nesting, with which a small file becomes a large one, are refused.
"""

from collections.abc import Iterator
import re
from typing import Any

import yaml

from pixel_pipeline.conversations.containers.json.document import records_of
from pixel_pipeline.conversations.containers.opened import Evidence, Input
from pixel_pipeline.conversations.formats.texts.transcript import speaker_share
from pixel_pipeline.conversations.model.records import Fault, ObjectError, Record, RecordError
from pixel_pipeline.conversations.text.cleaning import decode_document

NAME = "yaml_document"
POSITION_KIND = "record"
IS_TEXT = True
MAX_BYTES = 64 << 20
_MAX_DEPTH = 50
_LIST = re.compile(
    rb"(?m)^[ \t]{0,4}(?:conversations|messages|dialogues|dialogs|sessions|turns|examples|data):[ \t]*(?:#.*)?\r?\n(?:[ \t]*\r?\n)*[ \t]*- "
)
# What stands under a key: a dialogue may be a text of the corpus.
_WITHIN = re.compile(r"(?m)^[ \t-].*\n?")
_LOOKED_AT = 16 << 10
_LOADER: type[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def matches(given: Input) -> Evidence:
    """Whether a list of conversations opens as YAML opens it. A transcript is YAML too, by accident."""
    head = given.head[:_LOOKED_AT]
    if _LIST.search(head) is None:
        return Evidence(False, "no key of conversations opens a list")
    if (share := speaker_share(_WITHIN.sub("", head.decode("utf-8", "replace")))) >= 0.3:
        return Evidence(False, f"{share:.0%} of the first lines begin with a speaker")
    return Evidence(True, "a key of conversations opens a list")


def read(given: Input) -> Iterator[Record | Fault]:
    data = given.content.read_all(MAX_BYTES)
    try:
        text = decode_document(data, given.repaired)
        _refuse_bombs(text)
        document = yaml.load(text, Loader=_LOADER)  # noqa: S506 - constructs nothing but texts, lists and mappings
    except ObjectError:
        raise
    except RecordError as error:
        raise ObjectError(error.error_class, error.reason) from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        # The message of the library quotes the text.
        raise ObjectError("bad_yaml", f"not valid YAML{where}") from None
    for position, (value, context) in enumerate(records_of(document)):
        yield Record(position, value, None, context)


def _refuse_bombs(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ObjectError("yaml_alias", "an alias: write out what it stands for")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ObjectError("nesting_too_deep", f"YAML nested more than {_MAX_DEPTH} levels deep")
