"""Records of JSON text, one after another. What happens to an invalid one is the caller's choice."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
import json
from typing import Any, Literal, NamedTuple, Self

import orjson

from pixel_pipeline.errors import PixelError, SettingsError
from pixel_pipeline.lake.loader.compression import BLOCK_BYTES, blocks
from pixel_pipeline.lake.loader.json_elements import BYTE_ORDER_MARK, DEFAULT_MAX_RECORD_BYTES, json_elements

# Size of `errors` with on_error="collect". Further bad records only count in `skipped`.
MAX_COLLECTED = 10_000


@dataclass(frozen=True)
class BadRecord:
    """Where an invalid record is, and why it is invalid. Never its content.

    Attributes:
        uri: The object or file.
        number: Number of the line or element, from 1, counted from where reading began.
        offset: Offset of its first byte in the (decompressed) text.
        size: Size in bytes.
        reason: Why it is invalid.
    """

    uri: str
    number: int
    offset: int
    size: int
    reason: str


OnError = Literal["raise", "skip", "collect"] | Callable[[BadRecord], object]


class JsonRecordError(PixelError):
    """A line or element is not valid JSON: `bad`."""

    def __init__(self, bad: BadRecord, *, kind: str) -> None:
        super().__init__(
            f"{bad.uri}: {kind} {bad.number:,}, {bad.size:,} bytes from byte {bad.offset:,}: {bad.reason}.",
            hint='Repair it, or pass on_error="skip", "collect" or a function.',
        )
        self.bad = bad


class JsonRecords(ABC, Iterator[Any]):
    """Iterates over parsed records.

    Attributes:
        skipped: Number of bad records so far.
        errors: With `on_error="collect"`, the first 10,000 bad records.
    """

    kind: str
    _source: Generator[Any, None, None]

    def __init__(self, *, uri: str, on_error: OnError) -> None:
        if not callable(on_error) and on_error not in ("raise", "skip", "collect"):
            raise SettingsError(f'on_error is "raise", "skip", "collect" or a function, not {on_error!r}.')
        self.uri = uri
        self.skipped = 0
        self.errors: list[BadRecord] = []
        self._on_error = on_error
        self._records = self._parsed()

    @abstractmethod
    def _parsed(self) -> Generator[Any, None, None]: ...

    def __iter__(self) -> Iterator[Any]:
        # The generator itself: a call of `__next__` for each record would cost a tenth of the time.
        return self._records

    def __next__(self) -> Any:
        return next(self._records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop fetching ahead."""
        self._records.close()
        self._source.close()

    def _bad(self, number: int, *, offset: int, size: int, reason: str) -> None:
        bad = BadRecord(self.uri, number, offset, size, reason)
        self.skipped += 1
        if callable(self._on_error):
            self._on_error(bad)
        elif self._on_error == "raise":
            # Without its cause: the parser's own error holds the text.
            raise JsonRecordError(bad, kind=self.kind) from None
        elif self._on_error == "collect" and len(self.errors) < MAX_COLLECTED:
            self.errors.append(bad)


class JsonLines(JsonRecords):
    """Iterates over the records of JSON Lines, given as chunks of bytes of any size.

    Blank lines, carriage returns before line feeds, a byte order mark and a last line without line feed are allowed.

    Args:
        start_offset: Offset of the first chunk in the text; the start of a line.
        max_line_bytes: A longer line is a bad record, and is not kept in memory.
    """

    kind = "line"

    def __init__(
        self,
        chunks: Iterable[bytes | memoryview],
        *,
        uri: str,
        on_error: OnError = "raise",
        start_offset: int = 0,
        max_line_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    ) -> None:
        self._source = _line_blocks(chunks, offset=start_offset, max_line_bytes=max_line_bytes)
        self._block = _LineBlock(start_offset, start_offset, [], 0)
        self._index = -1
        # Offsets of the block's lines and of its end, once something asks for them.
        self._offsets: list[int] = []
        super().__init__(uri=uri, on_error=on_error)

    @property
    def next_offset(self) -> int:
        """Offset of the line after the last one returned, for the `start_offset` of a stream that continues there."""
        return min(self._offset(self._index + 1), self._block.end)

    def _offset(self, index: int) -> int:
        if not self._offsets:
            start, _, lines, first_size = self._block
            sizes = (len(line) + 1 for line in lines)
            self._offsets = [*accumulate(sizes, initial=start)]
            self._offsets[1:] = [offset + first_size for offset in self._offsets[1:]]
        return self._offsets[index]

    def _parsed(self) -> Generator[Any, None, None]:
        loads, decode_error = orjson.loads, orjson.JSONDecodeError
        count = 0
        for self._block in self._source:  # noqa: B020
            self._offsets = []
            # The index is all that is counted per record; everything else follows from it when asked for.
            for self._index, line in enumerate(self._block.lines):  # noqa: B020
                try:
                    record = loads(line)
                except decode_error as error:
                    first_size = self._block.first_size if self._index == 0 else 0
                    at_start = self._index == 0 and self._block.start == 0
                    text = line.removeprefix(BYTE_ORDER_MARK) if at_start else line
                    if not text.strip() and not first_size:
                        continue
                    try:
                        record = parse_again(text, error, size=first_size)
                    except BadJsonError as bad:
                        self._bad(
                            count + self._index + 1,
                            offset=self._offset(self._index),
                            size=first_size or len(line),
                            reason=str(bad),
                        )
                        continue
                yield record
            count += len(self._block.lines)


class _LineBlock(NamedTuple):
    """Whole lines of a text, without line feeds.

    Attributes:
        start: Offset of the first line.
        end: Offset of the first byte after the block.
        lines: Their bytes. A line over the limit is empty, and is always the first one.
        first_size: Size of the first line if it is over the limit; else 0.
    """

    start: int
    end: int
    lines: list[bytes]
    first_size: int


def _line_blocks(
    chunks: Iterable[bytes | memoryview], *, offset: int, max_line_bytes: int
) -> Generator[_LineBlock, None, None]:
    pieces: list[bytes] = []
    size = 0
    # Pieces no larger than the limit: only a line that began in an earlier one can be longer.
    for piece in blocks(chunks, size=min(BLOCK_BYTES, max_line_bytes)):
        first, *lines = piece.split(b"\n")
        size += len(first)
        if size <= max_line_bytes:
            pieces.append(first)
        else:
            pieces.clear()
        if lines:
            last = lines.pop()
            end = offset + size + len(piece) - len(first) - len(last)
            too_long = size if size > max_line_bytes else 0
            yield _LineBlock(offset, end, [b"".join(pieces), *lines], too_long)
            offset, pieces, size = end, [last], len(last)
    if size:
        too_long = size if size > max_line_bytes else 0
        yield _LineBlock(offset, offset + size, [b"".join(pieces)], too_long)


class JsonElements(JsonRecords):
    """Iterates over the parsed elements of a JSON array; arguments as for `json_elements`."""

    kind = "element"

    def __init__(
        self,
        chunks: Iterable[bytes | memoryview],
        *,
        uri: str,
        field: str | None = None,
        on_error: OnError = "raise",
        max_element_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    ) -> None:
        self._source = json_elements(chunks, field=field, max_element_bytes=max_element_bytes, name=uri)
        super().__init__(uri=uri, on_error=on_error)

    def _parsed(self) -> Generator[Any, None, None]:
        loads, decode_error = orjson.loads, orjson.JSONDecodeError
        for number, (offset, data, size) in enumerate(self._source, 1):
            try:
                record = loads(data)
            except decode_error as error:
                try:
                    record = parse_again(data, error, size=0 if data else size)
                except BadJsonError as bad:
                    self._bad(number, offset=offset, size=size, reason=str(bad))
                    continue
            yield record


class BadJsonError(ValueError):
    """Why bytes are not JSON, without quoting them."""


def parse_again(data: bytes, error: orjson.JSONDecodeError, *, size: int = 0) -> Any:
    """Parse text that Python's `json` accepts and `orjson` does not: NaN, infinities, lone surrogates.

    Args:
        size: Size of a record that is over the limit and was not kept; else 0.

    Raises:
        BadJsonError: it is not JSON for Python's `json` either.
    """
    if size:
        raise BadJsonError(f"longer than a record may be, {size:,} bytes")
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as encoding:
        raise BadJsonError(f"not UTF-8 at byte {encoding.start} of it") from None
    except RecursionError:
        raise BadJsonError("nested too deeply") from None
    except ValueError:
        raise BadJsonError(f"not JSON ({error.msg}, at character {error.pos})") from None
