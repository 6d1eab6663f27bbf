"""Records out of JSON text. A bad one goes where the caller wants it, never silently away."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
import json
from typing import Any, Literal, Self

import orjson

from pixel_pipeline.errors import PixelError, SettingsError

MAX_RECORD_BYTES = 256 * 1024**2
# "collect" keeps so many; further ones are counted in `skipped`.
MAX_COLLECTED = 10_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class BadRecord:
    """Where a record is that could not be read, and why; never what it says.

    Attributes:
        uri: The object or file.
        number: Of the line or element, from 1, counted from where reading began.
        offset: Of its first byte in the text, that is after decompression.
        size: In bytes.
        reason: Why it is no record.
    """

    uri: str
    number: int
    offset: int
    size: int
    reason: str


OnError = Literal["raise", "skip", "collect"] | Callable[[BadRecord], object]


class JsonRecordError(PixelError):
    """A line or element is not valid JSON. `bad` says which."""

    def __init__(self, bad: BadRecord, *, kind: str) -> None:
        super().__init__(
            f"{bad.uri}: {kind} {bad.number:,}, {bad.size:,} bytes from byte {bad.offset:,}: {bad.reason}.",
            hint='Repair it, or pass on_error="skip", "collect" or a function.',
        )
        self.bad = bad


class JsonRecords(ABC, Iterator[Any]):
    """Iterates over parsed records.

    Attributes:
        skipped: Bad records met so far.
        errors: With `on_error="collect"`, the bad records; at most 10,000 of them.
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

    @property
    @abstractmethod
    def read(self) -> int:
        """Records handed out so far."""

    @property
    @abstractmethod
    def bytes_read(self) -> int:
        """Bytes of text (after decompression) up to the end of the last record handed out."""

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
            # The parser's own error holds the text.
            raise JsonRecordError(bad, kind=self.kind) from None
        elif self._on_error == "collect" and len(self.errors) < MAX_COLLECTED:
            self.errors.append(bad)


class BadJsonError(ValueError):
    """Why bytes are no JSON, without what they say."""


def parse_again(data: bytes, error: orjson.JSONDecodeError) -> Any:
    """What the standard library takes for JSON and `orjson` does not: NaN, infinities, lone surrogates.

    Raises:
        BadJsonError: it is none for either.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as encoding:
        raise BadJsonError(f"not UTF-8 at byte {encoding.start} of it") from None
    except RecursionError:
        raise BadJsonError("nested too deeply") from None
    except ValueError:
        raise BadJsonError(f"not JSON ({error.msg}, at character {error.pos})") from None
