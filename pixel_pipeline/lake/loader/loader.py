"""Datasets by name: loaded whole, or streamed record by record in bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
import logging
import os
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

import orjson
import pyarrow as pa
import pyarrow.dataset as ds

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.loader.cache import Cache, CachedCatalogue, CacheError, CacheFullError
from pixel_pipeline.lake.loader.compression import MAGIC_BYTES, decompressed, is_compressed
from pixel_pipeline.lake.loader.json_elements import JsonElements
from pixel_pipeline.lake.loader.json_lines import JsonLines
from pixel_pipeline.lake.loader.json_records import (
    BYTE_ORDER_MARK,
    MAX_RECORD_BYTES,
    BadJsonError,
    OnError,
    parse_again,
)
from pixel_pipeline.lake.loader.resolution import (
    BucketCatalogue,
    Catalogue,
    DatasetNameError,
    DatasetNotFoundError,
    Location,
    checked_name,
    resolve,
    shown,
)
from pixel_pipeline.lake.s3.bucket import Bucket, ObjectInfo
from pixel_pipeline.lake.s3.errors import ObjectCorruptError
from pixel_pipeline.lake.s3.listing import list_prefixes
from pixel_pipeline.lake.s3.stream import ObjectStream, Verify
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.settings import Settings, get_settings

# Loading whole is for what fits into memory several times.
MAX_LOADED_BYTES = 8 * 1024**3
BATCH_ROWS = 8192
SCHEME = "s3://"
LINES_SUFFIXES = (".jsonl", ".ndjson")
TIERS = (keys.PROCESSED, *keys.RAW_TIERS)

FILE_CHUNK_BYTES = 1024**2

logger = logging.getLogger("pixel_pipeline")
_T = TypeVar("_T")


class DatasetTooLargeError(PixelError):
    """A dataset is too large to be loaded whole."""


class DatasetFormatError(PixelError):
    """A dataset is not of the format that it was to be read as."""


class ForkedProcessError(PixelError):
    """S3 cannot be read here: its client lives in the process that this one was forked from."""


class S3DatasetLoader:
    """Loads datasets of the lake by name.

    A name is looked for in `gdrive/processed/<category>`, then `gdrive/raw`, then `acquired`; `s3://bucket/key`, whole keys and
    local paths are names too (`resolution.py`). gzip and zstd are unpacked on the way, whatever the name. Every method
    that takes a name raises:

    - DatasetNotFoundError (a FileNotFoundError): there is no such dataset; the message lists the closest names.
    - DatasetNameError (a ValueError): no dataset can have this name. AmbiguousDatasetError: several have it.
    - ObjectChangedError: the object was replaced while it was read. ObjectCorruptError: its bytes are not what was stored.

    `cache_local`, where a method has it, keeps a local copy of the object, or reads it if the version in the bucket is still the
    same: True for the cache in PIXEL_HOME, or a folder. Of a canonical table no copy is kept. A full disk costs the
    copy, not the load: a warning says so.

    Args:
        lake: The lake; by default the one that the environment tells, opened when first needed.
        cache: The cache for `cache_local=True`.
        offline: Read from the cache alone, the copy fetched last, and never ask S3; by default PIXEL_OFFLINE.
        verify: Compare streams with their MD5 where S3 tells it: "auto" for plain http alone, since TLS protects the others. A
            mismatch is told when the stream ends. Whole objects (`load_*`, the cache) always are.

    Instances can be used by several threads, and pickled. A process that is forked after S3 was read cannot read it, and raises
    ForkedProcessError: use the start method `spawn`, or read nothing before.
    """

    def __init__(
        self,
        *,
        lake: Lake | None = None,
        cache: Cache | None = None,
        offline: bool | None = None,
        verify: Verify = "auto",
    ) -> None:
        self._given_lake = lake
        self._given_cache = cache
        self._offline = offline
        self.verify = verify

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens a lake of its own.
        hidden = {"lake", "cache", "settings"}
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    @cached_property
    def settings(self) -> Settings:
        """Settings of the environment."""
        return get_settings()

    @cached_property
    def lake(self) -> Lake:
        """The lake that is read."""
        return self._given_lake or Lake.open(self.settings)

    @cached_property
    def cache(self) -> Cache:
        """The cache for `cache_local=True`."""
        return self._given_cache or Cache(self.settings.home / "cache", max_bytes=self.settings.cache_bytes)

    @property
    def offline(self) -> bool:
        """True if S3 is never asked."""
        return self.settings.offline if self._offline is None else self._offline

    def locate(self, name: str | Path, *, category: str | None = None, suggest: bool = True) -> Location:
        """Where a dataset lies, and which version of it. `suggest`: look for close names when there is none."""
        if isinstance(name, str) and name.lower().startswith(SCHEME):
            return self._locate_uri(name)
        if isinstance(name, str) and "://" in name:
            raise DatasetNameError(f"{shown(name)} is no URI of S3.", hint="Give it as s3://bucket/key.")
        bucket = self.settings.bucket if self._given_lake is None else self._given_lake.data.name
        return resolve(name, self._catalogue(bucket), category=category, suggest=suggest)

    def bucket_of(self, location: Location) -> Bucket:
        """The bucket in which a located object or table lies."""
        return self._lake_of(location.bucket).data

    def get_path(self, name: str | Path, *, category: str | None = None) -> str:
        """`s3://bucket/key` of a dataset, or the path of a local one."""
        return self.locate(name, category=category).uri

    def object_exists(self, name: str | Path, *, category: str | None = None) -> bool:
        """True if there is a dataset of this name."""
        try:
            self.locate(name, category=category, suggest=False)
        except DatasetNotFoundError:
            return False
        return True

    def list_datasets(self, prefix: str | None = None) -> list[str]:
        """Keys of the objects and canonical tables below a folder, sorted; each is a name to load by.

        Args:
            prefix: A folder, e.g. `gdrive/processed/`; by default `gdrive/processed`, `gdrive/raw` and `acquired`.
        """
        folders = TIERS if prefix is None else (checked_name(prefix).rstrip("/"),)
        found = list_prefixes(self.lake.data, folders).objects["key"].to_pylist()
        tables = {key.split("/_delta_log/")[0] for key in found if "/_delta_log/" in key}

        def dataset(key: str) -> str:
            folders = (str(folder) for folder in PurePosixPath(key).parents)
            return next((folder for folder in folders if folder in tables), key)

        return sorted({dataset(key) for key in found})

    def load_dataset(
        self, name: str | Path, *, category: str | None = None, cache_local: bool | Path = False
    ) -> Any:
        """A dataset, parsed: the value of a JSON document, a list of the records of JSON lines, a list of dicts of the rows
        of a Parquet object or canonical table. Its name tells which: `.jsonl`, `.ndjson`, `.parquet`, else JSON.
        """
        location = self.locate(name, category=category)
        suffixes = [suffix.lower() for suffix in PurePosixPath(location.uri).suffixes]
        suffix = next((each for each in reversed(suffixes) if each not in (".gz", ".zst")), "")
        if location.is_table or suffix == ".parquet":
            return [row for batch in self._batches(location, cache_local) for row in batch.to_pylist()]
        if suffix in LINES_SUFFIXES:
            return [*JsonLines(self._text(location, cache_local), uri=location.uri)]
        return self._json(location, cache_local)

    def load_json(
        self, name: str | Path, *, category: str | None = None, cache_local: bool | Path = False
    ) -> Any:
        """The value of a JSON document. Raises DatasetFormatError where it is none."""
        return self._json(self.locate(name, category=category), cache_local)

    def load_bytes(
        self, name: str | Path, *, category: str | None = None, cache_local: bool | Path = False
    ) -> bytes:
        """The content, unpacked where it is compressed. Raises DatasetTooLargeError above 8 GiB."""
        return self._bytes(self.locate(name, category=category), cache_local)

    def load_text(
        self, name: str | Path, *, category: str | None = None, cache_local: bool | Path = False
    ) -> str:
        """The content as text, without byte order mark. Raises DatasetFormatError where it is not UTF-8."""
        location = self.locate(name, category=category)
        try:
            return self._bytes(location, cache_local).removeprefix(BYTE_ORDER_MARK).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DatasetFormatError(f"{location.uri} is not UTF-8 at byte {error.start:,}.") from None

    def stream_jsonl(
        self,
        name: str | Path,
        *,
        category: str | None = None,
        cache_local: bool | Path = False,
        on_error: OnError = "raise",
        start_offset: int = 0,
        max_line_bytes: int = MAX_RECORD_BYTES,
    ) -> JsonLines:
        """Iterate over the records of JSON lines, in memory that does not depend on their number.

        Args:
            on_error: What becomes of a line that is no JSON: "raise" JsonRecordError; "skip", counted in the iterator's
                `skipped`; "collect", in its `errors` as well; or a function that is called with the BadRecord.
            start_offset: Where to begin, in bytes of the (unpacked) text: the `next_offset` of an earlier iterator.
            max_line_bytes: A longer line is a bad one.
        """
        location = self.locate(name, category=category)
        return JsonLines(
            self._text(location, cache_local, start=start_offset),
            uri=location.uri,
            on_error=on_error,
            start_offset=start_offset,
            max_line_bytes=max_line_bytes,
        )

    def stream_json(
        self,
        name: str | Path,
        *,
        category: str | None = None,
        cache_local: bool | Path = False,
        field: str = "conversations",
        on_error: OnError = "raise",
        max_element_bytes: int = MAX_RECORD_BYTES,
    ) -> JsonElements:
        """Iterate over the elements of a JSON array, in memory bounded by the largest of them.

        Args:
            field: Where the document is an object: the member whose value is the array.
            on_error: As in `stream_jsonl`, for an element that is no JSON.
            max_element_bytes: A larger element is a bad one.

        Raises:
            JsonStructureError: while iterating, where the document is no such array, ends early, or goes on behind it.
        """
        location = self.locate(name, category=category)
        return JsonElements(
            self._text(location, cache_local),
            uri=location.uri,
            field=field,
            on_error=on_error,
            max_element_bytes=max_element_bytes,
        )

    def stream_parquet(
        self,
        name: str | Path,
        *,
        category: str | None = None,
        cache_local: bool | Path = False,
        columns: list[str] | None = None,
        filter: ds.Expression | None = None,
        batch_size: int = BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of a Parquet object or a canonical table, in memory bounded by a row group.

        Args:
            columns: Columns to read; the others are not fetched.
            filter: Rows to keep, e.g. `pyarrow.compute.field("language") == "en"`; row groups without any are not fetched.
            batch_size: Most rows of a batch.

        Raises:
            DatasetFormatError: while iterating, where it is no Parquet or has no such column.
        """
        location = self.locate(name, category=category)
        return self._batches(location, cache_local, columns=columns, filter=filter, batch_size=batch_size)

    def _locate_uri(self, uri: str) -> Location:
        bucket, _, key = checked_name(uri)[len(SCHEME) :].partition("/")
        if not bucket or not key:
            raise DatasetNameError(f"{shown(uri)} names no object.", hint="Give it as s3://bucket/key.")
        # A whole key below a root of the lake, or in a foreign bucket: nothing else is looked at.
        return resolve(key, self._catalogue(bucket), exact=True)

    def _catalogue(self, bucket: str) -> Catalogue:
        if self.offline:
            return CachedCatalogue(self.cache, bucket=bucket)
        return BucketCatalogue(self._lake_of(bucket))

    def _lake_of(self, bucket: str) -> Lake:
        """The lake, with another bucket as its data if that is what is read."""
        _check_not_forked()
        if bucket == self.lake.data.name:
            return self.lake
        return replace(self.lake, data=Bucket(name=bucket, target=self.lake.target))

    def _json(self, location: Location, cache_local: bool | Path) -> Any:
        data = self._bytes(location, cache_local).removeprefix(BYTE_ORDER_MARK)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            try:
                return parse_again(data, error)
            except BadJsonError as bad:
                raise DatasetFormatError(
                    f"{location.uri} is no JSON document: {bad}.",
                    hint="JSON lines under another name than .jsonl are read by `stream_jsonl`.",
                ) from None

    def _bytes(self, location: Location, cache_local: bool | Path) -> bytes:
        parts: list[bytes | memoryview] = []
        size = 0
        for part in self._text(location, cache_local, whole=True):
            size += len(part)
            if size > MAX_LOADED_BYTES:
                raise DatasetTooLargeError(
                    f"{location.uri} is larger than the {MAX_LOADED_BYTES:,} bytes that are loaded whole.",
                    hint="Stream it: stream_jsonl, stream_json or stream_parquet.",
                )
            parts.append(part)
        return b"".join(parts)

    def _text(
        self, location: Location, cache_local: bool | Path, *, start: int = 0, whole: bool = False
    ) -> Iterator[bytes | memoryview]:
        """The unpacked content from an offset on; with `whole`, of bytes that were compared with their MD5 before."""
        if location.is_table:
            raise DatasetFormatError(
                f"{location.uri} is a table.", hint="Read it by load_dataset or stream_parquet."
            )
        read = self._source(location, cache_local, whole=whole)
        if start and not is_compressed(b"".join(read(0, MAGIC_BYTES))):
            return iter(read(start))
        return _skipped(decompressed(read(0), uri=location.uri), start)

    def _source(self, location: Location, cache_local: bool | Path, *, whole: bool) -> "_Read":
        if (file := self._file(location, cache_local)) is not None:
            return partial(_file_chunks, file)
        bucket, info = self._object(location)

        def read(start: int, end: int | None = None) -> Iterable[bytes | memoryview]:
            part = info if end is None else replace(info, size=min(end, info.size))
            return ObjectStream(bucket, part, start=start, verify=end is None and self.verify)

        return (lambda start, end=None: _verified(bucket, info)) if whole else read

    def _file(self, location: Location, cache_local: bool | Path) -> BinaryIO | None:
        """The local file, or the local copy, of an object; None where it is to be read from S3."""
        if location.path is not None:
            return location.path.open("rb")
        if self.offline:
            if (copy := self.cache.open_newest(location.bucket, location.key)) is not None:
                return copy
            raise CacheError(
                f"The copy of {location.uri} is damaged.", hint="Load it again without PIXEL_OFFLINE."
            )
        if cache_local is False:
            return None
        cache = (
            self.cache if cache_local is True else Cache(Path(cache_local), max_bytes=self.cache.max_bytes)
        )
        bucket, info = self._object(location)
        if info.size > cache.max_bytes or not info.etag:
            logger.warning("%s is not kept in the cache: it is larger than that may be.", location.uri)
            return None
        fetch = partial(ObjectStream, bucket, info, verify=True)
        try:
            return _twice(lambda: cache.open(bucket.name, info.key, etag=info.etag, fetch=fetch))
        except CacheFullError as error:
            logger.warning("%s is loaded without a local copy. %s", location.uri, error.message)
            return None

    def _object(self, location: Location) -> tuple[Bucket, ObjectInfo]:
        assert location.info is not None
        return self._lake_of(location.bucket).data, location.info

    def _batches(
        self,
        location: Location,
        cache_local: bool | Path,
        *,
        columns: list[str] | None = None,
        filter: ds.Expression | None = None,
        batch_size: int = BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        try:
            if location.is_table:
                data = Table(self._lake_of(location.bucket), location.key).dataset()
                # One file and two batches ahead: Arrow's defaults hold many times as much.
                scanner = data.scanner(
                    columns, filter=filter, batch_size=batch_size, batch_readahead=2, fragment_readahead=1
                )
                yield from scanner.to_batches()
                return
            file: Any = self._file(location, cache_local)
            if file is None:
                bucket, info = self._object(location)
                file = bucket.open_raw(info.key, etag=info.etag)
            with closing(file):
                scan = ds.ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=True)
                whole = ds.ParquetFileFormat(default_fragment_scan_options=scan).make_fragment(file)
                # Row group by row group: over a whole file Arrow keeps all that it fetched, and threads of its own read on.
                for group in whole.split_by_row_group(filter):
                    rows = group.to_table(columns=columns, filter=filter, batch_size=batch_size)
                    yield from rows.to_batches(max_chunksize=batch_size)
        except PixelError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            # Arrow's own message may quote values.
            raise DatasetFormatError(
                f"{location.uri} cannot be read as Parquet ({type(error).__name__}).",
                hint="Check the names of columns and filter, and that the file is whole.",
            ) from None


# Processes that read S3: a forked one finds its parent here and not itself.
_readers: set[int] = set()


def _check_not_forked() -> None:
    if not _readers:
        _readers.add(os.getpid())
    if os.getpid() not in _readers:
        raise ForkedProcessError(
            "S3 was read before this process was forked, and its client would wait for threads that are not here.",
            hint='Start worker processes by "spawn" (DataLoader: multiprocessing_context="spawn"), or read nothing before.',
        )


_Read = Callable[..., Iterable[bytes | memoryview]]


def _verified(bucket: Bucket, info: ObjectInfo) -> list[bytes | memoryview]:
    """All bytes of an object, read a second time where they are not what was stored."""
    return _twice(lambda: [*ObjectStream(bucket, info, verify=True)])


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


def load_dataset_from_s3(
    name: str | Path, category: str | None = None, cache_local: bool | Path = False
) -> Any:
    """Load a dataset by name: `S3DatasetLoader().load_dataset`.

    Args:
        name: E.g. `dataset.json`; a whole key, `s3://bucket/key` or a local path as well.
        category: Folder of `gdrive/processed` to look in first.
        cache_local: Keep, and use, a local copy: True for the cache in PIXEL_HOME, or a folder.

    Returns:
        The value of a JSON document; a list of records for JSON lines, Parquet and canonical tables.
    """
    return S3DatasetLoader().load_dataset(name, category=category, cache_local=cache_local)


def get_s3_dataset_path(name: str | Path, category: str | None = None) -> str:
    """`s3://bucket/key` of a dataset, or the path of a local one: `S3DatasetLoader().get_path`."""
    return S3DatasetLoader().get_path(name, category=category)
