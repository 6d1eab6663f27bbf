"""JSON lines: one JSON value a line."""

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

import orjson

from pixel_pipeline.lake.loader.compression import BLOCK_BYTES, blocks
from pixel_pipeline.lake.loader.json_records import (
    BYTE_ORDER_MARK,
    MAX_RECORD_BYTES,
    BadJsonError,
    JsonRecords,
    OnError,
    parse_again,
)


class LineBlock(NamedTuple):
    """Some whole lines of a text.

    Attributes:
        offset: Offset of the first line's first byte.
        lines: Their bytes, without line feeds.
        too_long: Size of the one line that is over the limit and not kept; else 0.
        size: Bytes of the text that the block covers, line feeds included.
    """

    offset: int
    lines: list[bytes]
    too_long: int
    size: int


class JsonLines(JsonRecords):
    """Iterates over the records of JSON lines, fed with chunks of bytes of any size.

    Blank lines, carriage returns before line feeds and a byte order mark are no errors, nor is a last line without line feed.

    Args:
        start_offset: Where in the text the chunks begin, the start of a line.
        max_line_bytes: A longer line is a bad record; no more than this is ever kept of one.
    """

    kind = "line"

    def __init__(
        self,
        chunks: Iterable[bytes | memoryview],
        *,
        uri: str,
        on_error: OnError = "raise",
        start_offset: int = 0,
        max_line_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self._source = line_blocks(chunks, offset=start_offset, max_line_bytes=max_line_bytes)
        self._start = start_offset
        self._block = LineBlock(start_offset, [], 0, 0)
        self._index = -1
        self._lines_before = 0
        self._blank = 0
        # Offset of a line of the present block, by its index: where the offset of the next bad one is counted from.
        self._known = (0, start_offset)
        super().__init__(uri=uri, on_error=on_error)

    @property
    def read(self) -> int:
        return self._lines_before + self._index + 1 - self._blank - self.skipped

    @property
    def bytes_read(self) -> int:
        return self.next_offset - self._start

    @property
    def next_offset(self) -> int:
        """Offset of the line after the last one handed out: `start_offset` of a stream that goes on there."""
        offset, lines, too_long, size = self._block
        return offset + min(size, too_long + sum(len(line) + 1 for line in lines[: self._index + 1]))

    def _parsed(self) -> Generator[Any, None, None]:
        loads, decode_error = orjson.loads, orjson.JSONDecodeError
        for self._block in self._source:  # noqa: B020
            # Nothing is counted here, where each operation costs for every record: the counts follow from the index.
            for self._index, line in enumerate(self._block.lines):  # noqa: B020
                try:
                    record = loads(line)
                except decode_error as error:
                    try:
                        record = self._second_look(line, error)
                    except BadJsonError:
                        continue
                yield record
            self._lines_before += len(self._block.lines)
            self._block = LineBlock(self._block.offset + self._block.size, [], 0, 0)
            self._index = -1

    def _second_look(self, line: bytes, error: orjson.JSONDecodeError) -> Any:
        """The record, or BadJsonError after the line was counted as blank or bad."""
        block, size = self._block, self._block.too_long or len(line)
        at_start = self._index == 0 and block.offset == 0
        text = line.removeprefix(BYTE_ORDER_MARK) if at_start else line
        if not block.too_long and not text.strip():
            self._blank += 1
            raise BadJsonError
        reason = f"longer than a record may be, {size:,} bytes"
        if not block.too_long:
            try:
                return parse_again(text, error)
            except BadJsonError as bad:
                reason = str(bad)
        index, offset = self._known if self._known[1] >= block.offset else (0, block.offset)
        offset += sum(len(line) + 1 for line in block.lines[index : self._index])
        self._known = (self._index, offset)
        self._bad(self._lines_before + self._index + 1, offset=offset, size=size, reason=reason)
        raise BadJsonError


def line_blocks(
    chunks: Iterable[bytes | memoryview], *, offset: int = 0, max_line_bytes: int = MAX_RECORD_BYTES
) -> Generator[LineBlock, None, None]:
    """Cut a text at line feeds, in bounded memory."""
    pieces: list[bytes] = []
    held = 0
    # Blocks no larger than the limit: only a line that goes on from an earlier block can be over it.
    for block in blocks(chunks, size=min(BLOCK_BYTES, max_line_bytes)):
        first, *lines = block.split(b"\n")
        held += len(first)
        if held <= max_line_bytes:
            pieces.append(first)
        else:
            pieces = []
        if not lines:
            continue
        if held > max_line_bytes:
            yield LineBlock(offset, [b""], held, held + 1)
        else:
            yield LineBlock(offset, [b"".join(pieces)], 0, held + 1)
        offset += held + 1
        last = lines.pop()
        if lines:
            size = len(block) - len(first) - 1 - len(last)
            yield LineBlock(offset, lines, 0, size)
            offset += size
        pieces, held = [last], len(last)
    if held:
        too_long = held if held > max_line_bytes else 0
        yield LineBlock(offset, [b"" if too_long else b"".join(pieces)], too_long, held)
