"""Containers: how the bytes of an object become records. What an object is, its content says, not its name.

A container is a module with `NAME`, `POSITION_KIND`, `IS_TEXT`, `matches(Input) -> bool` and `read(Input) ->
records`. CONTAINERS is asked in order; the last takes any text. To add one: write its module, add it here,
write its test. Around them, packings (`unpacking`) are taken off, and archives hand out members that are opened in turn.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from pixel_pipeline.conversations.containers import other, text_document, yaml_document
from pixel_pipeline.conversations.containers.arrow import ipc as arrow_table
from pixel_pipeline.conversations.containers.arrow import parquet as parquet_table
from pixel_pipeline.conversations.containers.csv import table as csv_table
from pixel_pipeline.conversations.containers.json import (
    array as json_array,
)
from pixel_pipeline.conversations.containers.json import (
    document as json_document,
)
from pixel_pipeline.conversations.containers.json import (
    lines as json_lines,
)
from pixel_pipeline.conversations.containers.opened import PROBE_BYTES, Container, Evidence, Input, Opened
from pixel_pipeline.conversations.containers.openings import opening_of
from pixel_pipeline.conversations.containers.overrides import (
    WIDE,
    mismatch,
    refuse_container,
    refuse_encoding,
)
from pixel_pipeline.conversations.containers.packed import word as word_document
from pixel_pipeline.conversations.containers.packed.archives import TAR, ZIP, ZIP_MAGIC, Archive
from pixel_pipeline.conversations.containers.packed.unpacking import packing_of
from pixel_pipeline.conversations.containers.packed.workbook import WORKBOOK
from pixel_pipeline.conversations.containers.random_access import spooled
from pixel_pipeline.conversations.containers.streams import (
    PeekableStream,
    TranscodedStream,
    returns_to_feeds,
    to_utf8,
)
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.records import ObjectError
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.text.cleaning import SAMPLE_BYTES, Encoding, detect_encoding
from pixel_pipeline.conversations.threads.messages import joined, strewn

CONTAINERS: tuple[Container, ...] = tuple(
    Container(module.NAME, module.POSITION_KIND, module.IS_TEXT, module.matches, module.read)
    for module in (
        parquet_table,
        arrow_table,
        word_document,
        json_lines,
        json_array,
        json_document,
        yaml_document,
        csv_table,
        text_document,
    )
)
ARCHIVES: tuple[Archive, ...] = (WORKBOOK, ZIP, TAR)
MAX_DEPTH = 2
"""Archives within archives, and packings within packings."""

NOT_A_DATASET = "not_a_dataset"
"""Why an object is dropped."""
SAID_BY_RULE = "its rule in families.yaml says so"
_UTF8_MARK = b"\xef\xbb\xbf"


def open_container(
    source: SourceObject, stream: BinaryIO, *, repaired: Counter[str], curious: bool = False
) -> Opened:
    """Finds out what an object is, unless its rule says so, and opens it.

    Args:
        repaired: Gets the changes that are made on the way.
        curious: Ask all containers, not only those up to the first that matches.

    Raises:
        ObjectError: It is an archive or a table of a kind that is not read here, or its rule says what it cannot be.
    """
    name = PurePosixPath(source.key).name.lower()
    return _open(name, stream, repaired=repaired, depth=0, options=source.options, curious=curious)


def _open(
    name: str,
    stream: BinaryIO,
    *,
    repaired: Counter[str],
    depth: int,
    options: ConversionOptions,
    curious: bool = False,
) -> Opened:
    content, original = PeekableStream(stream), stream if _seekable(stream) else None
    packed = ""
    for _ in range(MAX_DEPTH):
        if (packing := packing_of(content.peek(PROBE_BYTES))) is None:
            break
        content, original = PeekableStream(packing.unpack(content)), None
        name = name.removesuffix(packing.suffix)
        packed += f"unpacked ({packing.suffix}); "
    head = content.peek(PROBE_BYTES)
    if head.startswith(ZIP_MAGIC) and original is None:
        original = spooled(content)
        content = PeekableStream(original)
    given = Input(name, content, original, 0, repaired)
    chosen = next((kind for kind in CONTAINERS if kind.name == options.container), None)
    candidates = _candidates(given, are_text=False) if curious else None
    for container in CONTAINERS:
        if not container.is_text and (evidence := container.matches(given)):
            if chosen not in (None, container):
                raise mismatch(f"container: {options.container}", evidence.why)
            return _opened(
                container, given, Encoding("binary", ""), packed + evidence.why, candidates=candidates
            )
    if (archive := next((kind for kind in ARCHIVES if kind.matches(given)), None)) is not None:
        if archive is WORKBOOK and chosen is not None:
            raise mismatch(f"container: {chosen.name}", "it is a workbook")
        if depth >= MAX_DEPTH:
            raise ObjectError("nesting_too_deep", f"more than {MAX_DEPTH} archives within each other")
        members = _members(archive, given, depth=depth + 1, options=options)
        why = f"{packed}it is an archive ({archive.name})"
        return Opened(archive.name, "binary", "object", iter(()), members=members, why=why)
    # Who says what a file is read as knows better than its name.
    believed = name if chosen is None else ""
    wide = any(name.startswith(WIDE) for name in (options.encoding or "", detect_encoding(head).name))
    if why_none := other.not_a_dataset(believed, head, wide=wide):
        content.raise_fault()
        return Opened("other", "binary", "object", iter(()), NOT_A_DATASET, why=packed + why_none)
    other.refuse_unsupported(head)
    if chosen is not None and not chosen.is_text:
        raise mismatch(f"container: {chosen.name}", chosen.matches(given).why)

    sample = content.peek(SAMPLE_BYTES)
    if options.encoding is None:
        encoding = detect_encoding(sample)
    else:
        refuse_encoding(options.encoding, sample)
        encoding = Encoding(options.encoding, SAID_BY_RULE)
    if encoding.name != "utf-8":
        content = PeekableStream(TranscodedStream(content, to_utf8(encoding.name, repaired)))
    head = content.peek(PROBE_BYTES)
    if b"\r" in head and b"\n" not in head:
        content, original = PeekableStream(TranscodedStream(content, returns_to_feeds(repaired))), None
    start = 0
    if content.peek(3) == _UTF8_MARK:
        content.skip(3)
        start = 3
        repaired["byte_order_mark"] += 1
    given = Input(name, content, None, start, repaired)
    # Only an object that is read as it lies can be read from the middle on.
    as_it_lies = original is not None and encoding.name == "utf-8"
    candidates = _candidates(given, are_text=True) if curious else None
    if chosen is not None:
        refuse_container(chosen.name, given)
        return _opened(
            chosen, given, encoding, packed + SAID_BY_RULE, as_it_lies=as_it_lies, candidates=candidates
        )
    for container in CONTAINERS:
        if container.is_text and (evidence := container.matches(given)):
            why = packed + evidence.why
            return _opened(container, given, encoding, why, as_it_lies=as_it_lies, candidates=candidates)
    raise AssertionError("the last container takes any text")


def _candidates(given: Input, *, are_text: bool) -> dict[str, Evidence]:
    return {kind.name: kind.matches(given) for kind in CONTAINERS if kind.is_text == are_text}


def _opened(
    container: Container,
    given: Input,
    encoding: Encoding,
    why: str,
    *,
    candidates: dict[str, Evidence] | None,
    as_it_lies: bool = False,
) -> Opened:
    opening = opening_of(container.name, given) if as_it_lies else None
    are_messages, records = strewn(container.read(given))
    if are_messages:
        # Those of one conversation may lie anywhere in the object.
        opening = None
        why = f"{why}; a record is a single message, those of one conversation are taken together"
        records = joined(records, repaired=given.repaired)
    return Opened(
        container.name,
        encoding.name,
        container.position_kind,
        records,
        opening=opening and opening._replace(why=why, encoding_why=encoding.why),
        why=why,
        encoding_why=encoding.why,
        candidates=candidates,
    )


def _members(
    archive: Archive, given: Input, *, depth: int, options: ConversionOptions
) -> Iterator[tuple[str, int, Opened | ObjectError]]:
    for member in archive.members(given):
        opened: Opened | ObjectError
        if member.error is not None:
            opened = member.error
        elif member.content is None:
            opened = member.opened or Opened(
                "other", "binary", "object", iter(()), member.dropped, why="it is a link or no file"
            )
        else:
            base = PurePosixPath(member.name).name.lower()
            try:
                opened = _open(
                    base,
                    cast(BinaryIO, member.content),
                    repaired=given.repaired,
                    depth=depth,
                    options=options,
                )
            except ObjectError as error:
                opened = error
        yield member.name, member.size, opened


def _seekable(stream: BinaryIO) -> bool:
    seekable = getattr(stream, "seekable", None)
    return bool(seekable and seekable())
