"""A text document: the whole object is one record."""

from collections.abc import Iterator

from pixel_pipeline.conversations.containers.opened import Evidence, Input
from pixel_pipeline.conversations.model.records import (
    MAX_RECORD_BYTES,
    Fault,
    ObjectError,
    Record,
    RecordError,
)
from pixel_pipeline.conversations.text.cleaning import decode_document

NAME = "text_document"
POSITION_KIND = "object"
IS_TEXT = True


def matches(given: Input) -> Evidence:
    return Evidence(True, "it is text")


def read(given: Input) -> Iterator[Record | Fault]:
    data = given.content.read_all(MAX_RECORD_BYTES)
    try:
        yield Record(0, decode_document(data, given.repaired), None)
    except RecordError as error:
        raise ObjectError(error.error_class, error.reason) from None
