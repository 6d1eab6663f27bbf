"""Containers: how the bytes of an object become records. What an object is, its content says, not its name.

A container is a module with `NAME`, `POSITION_KIND`, `IS_TEXT`, `matches(Input) -> bool` and `read(Input) ->
records`. CONTAINERS is asked in order; the last takes any text. To add one: write its module, add it here,
write its test.
"""

from collections import Counter
from pathlib import PurePosixPath
from typing import BinaryIO

from pixel_pipeline.conversations.containers import (
    csv_table,
    json_document,
    json_lines,
    other,
    parquet_table,
    text_document,
)
from pixel_pipeline.conversations.containers.opened import PROBE_BYTES, Container, Input, Opened
from pixel_pipeline.conversations.containers.streams import (
    GunzipStream,
    PeekableStream,
    TranscodedStream,
    cp1252_to_utf8,
    is_gzip,
    returns_to_feeds,
    utf16_to_utf8,
)
from pixel_pipeline.conversations.source import SourceObject
from pixel_pipeline.conversations.text import SAMPLE_BYTES, detect_encoding

CONTAINERS: tuple[Container, ...] = tuple(
    Container(module.NAME, module.POSITION_KIND, module.IS_TEXT, module.matches, module.read)
    for module in (parquet_table, json_lines, json_document, csv_table, text_document)
)

_UTF8_MARK = b"\xef\xbb\xbf"


def open_container(source: SourceObject, stream: BinaryIO, *, repaired: Counter[str]) -> Opened:
    """Finds out what an object is and opens it.

    Raises:
        ObjectError: It is an archive or a table of a kind that is not read here.
    """
    content, original = PeekableStream(stream), stream if _seekable(stream) else None
    name = PurePosixPath(source.key).name.lower()
    if is_gzip(content.peek(PROBE_BYTES)):
        content, original = PeekableStream(GunzipStream(content)), None
        name = name.removesuffix(".gz")
    head = content.peek(PROBE_BYTES)
    given = Input(name, content, original, 0, repaired)
    for container in CONTAINERS:
        if not container.is_text and container.matches(given):
            return Opened(container.name, "binary", container.position_kind, container.read(given))
    if reason := other.not_a_dataset(name, head):
        content.raise_fault()
        return Opened("other", "binary", "object", iter(()), reason)
    other.refuse_unsupported(head)

    encoding = detect_encoding(content.peek(SAMPLE_BYTES))
    if encoding != "utf-8":
        convert = cp1252_to_utf8 if encoding == "cp1252" else utf16_to_utf8(repaired)
        content = PeekableStream(TranscodedStream(content, convert))
    head = content.peek(PROBE_BYTES)
    if b"\r" in head and b"\n" not in head:
        content = PeekableStream(TranscodedStream(content, returns_to_feeds(repaired)))
    start = 0
    if content.peek(3) == _UTF8_MARK:
        content.skip(3)
        start = 3
        repaired["byte_order_mark"] += 1
    given = Input(name, content, None, start, repaired)
    container = next(kind for kind in CONTAINERS if kind.is_text and kind.matches(given))
    return Opened(container.name, encoding, container.position_kind, container.read(given))


def _seekable(stream: BinaryIO) -> bool:
    seekable = getattr(stream, "seekable", None)
    return bool(seekable and seekable())
