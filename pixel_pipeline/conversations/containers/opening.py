"""Opening an object: its content decides what it is, not its name.

Compression is removed, and the members of archives are opened in turn.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from pixel_pipeline.conversations.containers import other
from pixel_pipeline.conversations.containers.container import (
    PROBE_BYTES,
    Container,
    Evidence,
    Input,
    Opened,
    Opening,
)
from pixel_pipeline.conversations.containers.known import ARCHIVES, CONTAINERS
from pixel_pipeline.conversations.containers.overrides import (
    WIDE,
    mismatch,
    refuse_container,
    refuse_encoding,
)
from pixel_pipeline.conversations.containers.packed.archives import ZIP_MAGIC, Archive
from pixel_pipeline.conversations.containers.packed.unpacking import SUFFIXES, UnpackedStream
from pixel_pipeline.conversations.containers.packed.workbook import WORKBOOK
from pixel_pipeline.conversations.containers.random_access import spooled
from pixel_pipeline.conversations.containers.ranges import opening_of
from pixel_pipeline.conversations.containers.streams import (
    PeekableStream,
    TranscodedStream,
    carriage_returns_to_line_feeds,
    to_utf8,
)
from pixel_pipeline.conversations.model.options import ConversionOptions
from pixel_pipeline.conversations.model.records import ObjectError
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.text.cleaning import SAMPLE_BYTES, Encoding, detect_encoding
from pixel_pipeline.conversations.threads.messages import join_messages
from pixel_pipeline.lake.loader.compression import codec_of

MAX_DEPTH = 2
"""Limit of archives within archives, and of compression within compression."""

NOT_A_DATASET = "not_a_dataset"
"""Reason for dropping an object."""
SET_BY_RULE = "its rule in families.yaml says so"
_UTF8_MARK = b"\xef\xbb\xbf"


def open_container(
    source: SourceObject, stream: BinaryIO, *, repaired: Counter[str], all_candidates: bool = False
) -> Opened:
    """Open an object with the container that its content shows or its rule names.

    Args:
        all_candidates: Whether to test all containers, not only those up to the first match; not for members of archives.

    Raises:
        ObjectError: The kind of archive or table is not supported, or the rule contradicts the content.
    """
    opener = _Opener(source.options, repaired, all_candidates=all_candidates)
    return opener.open(PurePosixPath(source.key).name.lower(), stream)


class _Opener:
    def __init__(self, options: ConversionOptions, repaired: Counter[str], *, all_candidates: bool) -> None:
        self._encoding = options.encoding
        self._chosen = next((kind for kind in CONTAINERS if kind.name == options.container), None)
        self._repaired = repaired
        self._all_candidates = all_candidates

    def open(self, name: str, stream: BinaryIO, *, depth: int = 0) -> Opened:
        content, original = PeekableStream(stream), stream if _seekable(stream) else None
        unpacked = ""
        for _ in range(MAX_DEPTH):
            if (codec := codec_of(content.peek(PROBE_BYTES))) is None:
                break
            content, original = PeekableStream(UnpackedStream(content, codec)), None
            name = name.removesuffix(SUFFIXES[codec])
            unpacked += f"unpacked ({SUFFIXES[codec]}); "
        head = content.peek(PROBE_BYTES)
        if head.startswith(ZIP_MAGIC) and original is None:
            original = spooled(content)
            content = PeekableStream(original)
        given, chosen = Input(name, content, original, 0, self._repaired), self._chosen
        candidates = self._candidates(given, are_text=False)
        for container in CONTAINERS:
            if not container.is_text and (evidence := container.matches(given)):
                if chosen is not None and chosen is not container:
                    raise mismatch(f"container: {chosen.name}", evidence.why)
                opened = self._opened(container, given, Encoding("binary", ""), unpacked + evidence.why)
                return opened._replace(candidates=candidates)
        if (archive := next((kind for kind in ARCHIVES if kind.matches(given)), None)) is not None:
            if archive is WORKBOOK and chosen is not None:
                raise mismatch(f"container: {chosen.name}", "it is a workbook")
            if depth >= MAX_DEPTH:
                raise ObjectError("nesting_too_deep", f"more than {MAX_DEPTH} archives within each other")
            members = self._members(archive, given, depth=depth + 1)
            why = f"{unpacked}it is an archive ({archive.name})"
            return Opened(archive.name, "binary", "object", iter(()), members=members, why=why)
        # A rule outweighs the object's name.
        trusted_name = name if chosen is None else ""
        wide = any(name.startswith(WIDE) for name in (self._encoding or "", detect_encoding(head).name))
        if reason := other.not_a_dataset(trusted_name, head, wide=wide):
            content.raise_fault()
            return Opened("other", "binary", "object", iter(()), NOT_A_DATASET, why=unpacked + reason)
        other.refuse_unsupported(head)
        if chosen is not None and not chosen.is_text:
            raise mismatch(f"container: {chosen.name}", chosen.matches(given).why)
        return self._open_text(given, unpacked)

    def _open_text(self, given: Input, unpacked: str) -> Opened:
        name, content, original, start, repaired = given
        sample = content.peek(SAMPLE_BYTES)
        if self._encoding is None:
            encoding = detect_encoding(sample)
        else:
            refuse_encoding(self._encoding, sample)
            encoding = Encoding(self._encoding, SET_BY_RULE)
        if encoding.name != "utf-8":
            content = PeekableStream(TranscodedStream(content, to_utf8(encoding.name, repaired)))
            original = None
        head = content.peek(PROBE_BYTES)
        if b"\r" in head and b"\n" not in head:
            convert = carriage_returns_to_line_feeds(repaired)
            content, original = PeekableStream(TranscodedStream(content, convert)), None
        if content.peek(3) == _UTF8_MARK:
            content.skip(3)
            start = 3
            repaired["byte_order_mark"] += 1
        given = Input(name, content, None, start, repaired)
        candidates = self._candidates(given, are_text=True)
        if self._chosen is not None:
            refuse_container(self._chosen.name, given)
            container, why = self._chosen, SET_BY_RULE
        else:
            matches = ((kind, kind.matches(given)) for kind in CONTAINERS if kind.is_text)
            container, why = next((kind, evidence.why) for kind, evidence in matches if evidence)
        # Ranges can only be read of an object whose stored bytes are the text.
        opening = opening_of(container.name, given) if original is not None else None
        opened = self._opened(container, given, encoding, unpacked + why, opening)
        return opened._replace(candidates=candidates)

    def _candidates(self, given: Input, *, are_text: bool) -> dict[str, Evidence] | None:
        if not self._all_candidates:
            return None
        return {kind.name: kind.matches(given) for kind in CONTAINERS if kind.is_text == are_text}

    def _opened(
        self, container: Container, given: Input, encoding: Encoding, why: str, opening: Opening | None = None
    ) -> Opened:
        are_messages, records = join_messages(container.read(given), repaired=given.repaired)
        if are_messages:
            # Messages of one conversation may be anywhere in the object.
            opening = None
            why = f"{why}; each record is a single message, and messages of one conversation are joined"
        return Opened(
            container.name,
            encoding.name,
            container.position_kind,
            records,
            opening=opening and opening._replace(why=why, encoding_why=encoding.why),
            why=why,
            encoding_why=encoding.why,
        )

    def _members(
        self, archive: Archive, given: Input, *, depth: int
    ) -> Iterator[tuple[str, int, Opened | ObjectError]]:
        self._all_candidates = False
        for member in archive.members(given):
            opened: Opened | ObjectError
            if member.error is not None:
                opened = member.error
            elif member.content is None:
                opened = member.opened or Opened(
                    "other", "binary", "object", iter(()), member.dropped, why="it is a link or not a file"
                )
            else:
                base = PurePosixPath(member.name).name.lower()
                try:
                    opened = self.open(base, cast(BinaryIO, member.content), depth=depth)
                except ObjectError as error:
                    opened = error
            yield member.name, member.size, opened


def _seekable(stream: BinaryIO) -> bool:
    seekable = getattr(stream, "seekable", None)
    return bool(seekable and seekable())
