"""A text document: the whole object is one record."""

from collections.abc import Iterator

from pixel_pipeline.conversations.containers.container import Evidence, Input
from pixel_pipeline.conversations.model.records import MAX_RECORD_BYTES, Fault, Record
from pixel_pipeline.conversations.text.cleaning import decode_document

NAME = "text_document"
POSITION_KIND = "object"
IS_TEXT = True


def matches(given: Input) -> Evidence:
    return Evidence(True, "it is text")


def read(given: Input) -> Iterator[Record | Fault]:
    data = given.content.read_all(MAX_RECORD_BYTES)
    yield Record(0, decode_document(data, given.repaired), None)
