"""The content of one dataset: a table, an object, its local copy, or a local file."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
import logging
from typing import Any, BinaryIO, TypeVar

import orjson
import pyarrow as pa
import pyarrow.dataset as ds

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.loader.cache import Cache, CacheError, CacheFullError
from pixel_pipeline.lake.loader.catalogue import Location
from pixel_pipeline.lake.loader.compression import MAGIC_BYTES, codec_of, decompressed
from pixel_pipeline.lake.loader.json_elements import BYTE_ORDER_MARK
from pixel_pipeline.lake.loader.json_records import BadJsonError, parse_again
from pixel_pipeline.lake.s3.bucket import Bucket, ObjectInfo
from pixel_pipeline.lake.s3.errors import ObjectCorruptError
from pixel_pipeline.lake.s3.stream import ObjectStream, Verify
from pixel_pipeline.lake.tables.table import Table

# Whole datasets are loaded where they fit into memory several times.
MAX_LOADED_BYTES = 8 * 1024**3
BATCH_ROWS = 8192
FILE_CHUNK_BYTES = 1024**2

logger = logging.getLogger("pixel_pipeline")
_T = TypeVar("_T")
_Read = Callable[..., Iterable[bytes | memoryview]]


class DatasetTooLargeError(PixelError):
    """A dataset is too large to be loaded whole."""


class DatasetFormatError(PixelError):
    """A dataset does not have the format that it is read as."""


@dataclass(frozen=True)
class Content:
    """The content of one located dataset.

    Attributes:
        lake: Lake with the dataset's bucket as its data bucket; None for a local file or offline.
        cache: Cache that keeps a copy of the object; None to read from S3.
        verify: As for `ObjectStream`.
    """

    location: Location
    lake: Lake | None
    cache: Cache | None
    verify: Verify

    def json(self) -> Any:
        """Return the value of a JSON document."""
        data = self.load().removeprefix(BYTE_ORDER_MARK)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            try:
                return parse_again(data, error)
            except BadJsonError as bad:
                raise DatasetFormatError(
                    f"{self.location.uri} is no JSON document: {bad}.",
                    hint="JSON Lines under another name than .jsonl are read by `stream_jsonl`.",
                ) from None

    def load(self) -> bytes:
        """Return the decompressed content. Raises DatasetTooLargeError."""
        parts: list[bytes | memoryview] = []
        size = 0
        for part in self.text(whole=True):
            size += len(part)
            if size > MAX_LOADED_BYTES:
                raise DatasetTooLargeError(
                    f"{self.location.uri} is larger than {MAX_LOADED_BYTES:,} bytes, the limit for loading it whole.",
                    hint="Stream it: stream_jsonl, stream_json or stream_parquet.",
                )
            parts.append(part)
        return b"".join(parts)

    def text(self, *, start: int = 0, whole: bool = False) -> Iterator[bytes | memoryview]:
        """Iterate over the decompressed content from an offset on.

        Args:
            whole: Fetch and verify an object completely before its first byte is returned.
        """
        if self.location.is_table:
            raise DatasetFormatError(
                f"{self.location.uri} is a table.", hint="Read it by load_dataset or stream_parquet."
            )
        read = self._reader(whole=whole)
        if start and codec_of(b"".join(read(0, MAGIC_BYTES))) is None:
            return iter(read(start))
        return _skipped(decompressed(read(0), uri=self.location.uri), start)

    def batches(
        self,
        *,
        columns: list[str] | None = None,
        filter: ds.Expression | None = None,
        batch_size: int = BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows of a table or Parquet object."""
        try:
            if self.location.is_table:
                assert self.lake is not None
                data = Table(self.lake, self.location.key).dataset()
                # One file and two batches ahead: Arrow's defaults hold many times as much.
                scanner = data.scanner(
                    columns, filter=filter, batch_size=batch_size, batch_readahead=2, fragment_readahead=1
                )
                yield from scanner.to_batches()
                return
            file: Any = self._file()
            if file is None:
                bucket, info = self._object()
                file = bucket.open_raw(info.key, etag=info.etag)
            with closing(file):
                scan = ds.ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=True)
                parquet = ds.ParquetFileFormat(default_fragment_scan_options=scan).make_fragment(file)
                # Row group by row group: over a whole file Arrow keeps all that it fetched, and its threads read on.
                for group in parquet.split_by_row_group(filter):
                    rows = group.to_table(columns=columns, filter=filter, batch_size=batch_size)
                    yield from rows.to_batches(max_chunksize=batch_size)
        except PixelError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            # Arrow's own message may quote values.
            raise DatasetFormatError(
                f"{self.location.uri} cannot be read as Parquet ({type(error).__name__}).",
                hint="Check the names of columns and filter, and that the file is whole.",
            ) from None

    def _reader(self, *, whole: bool) -> _Read:
        """Return a function that reads from one offset to another, by default to the end."""
        if (file := self._file()) is not None:
            return partial(_file_chunks, file)
        bucket, info = self._object()
        if whole:
            return lambda start, end=None: _twice(lambda: [*ObjectStream(bucket, info, verify=True)])

        def read(start: int, end: int | None = None) -> Iterable[bytes | memoryview]:
            part = info if end is None else replace(info, size=min(end, info.size))
            return ObjectStream(bucket, part, start=start, verify=end is None and self.verify)

        return read

    def _file(self) -> BinaryIO | None:
        """Open the local file, or the local copy of an object; None if it is read from S3."""
        location = self.location
        if location.path is not None:
            return location.path.open("rb")
        if self.cache is None:
            return None
        if self.lake is None:
            if (copy := self.cache.open_newest(location.bucket, location.key)) is not None:
                return copy
            raise CacheError(
                f"The copy of {location.uri} is damaged.", hint="Load it again without PIXEL_OFFLINE."
            )
        bucket, info = self._object()
        if info.size > self.cache.max_bytes or not info.etag:
            logger.warning("%s is not kept in the cache: it is larger than the cache may be.", location.uri)
            return None
        cache, fetch = self.cache, partial(ObjectStream, bucket, info, verify=True)
        try:
            return _twice(lambda: cache.open(bucket.name, info.key, etag=info.etag, fetch=fetch))
        except CacheFullError as error:
            logger.warning("%s is loaded without a local copy. %s", location.uri, error.message)
            return None

    def _object(self) -> tuple[Bucket, ObjectInfo]:
        assert self.lake is not None
        assert self.location.info is not None
        return self.lake.data, self.location.info


def _twice(attempt: Callable[[], _T]) -> _T:
    try:
        return attempt()
    except ObjectCorruptError:
        return attempt()


def _file_chunks(file: BinaryIO, start: int, end: int | None = None) -> Iterator[bytes]:
    file.seek(start)
    if end is not None:
        yield file.read(end - start)
        return
    with file:
        while chunk := file.read(FILE_CHUNK_BYTES):
            yield chunk


def _skipped(chunks: Iterator[bytes | memoryview], size: int) -> Iterator[bytes | memoryview]:
    """The chunks without their first bytes."""
    for chunk in chunks:
        if size < len(chunk):
            yield memoryview(chunk)[size:] if size else chunk
        size = max(0, size - len(chunk))
