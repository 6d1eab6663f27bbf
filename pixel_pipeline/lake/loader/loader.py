"""Datasets by name: loaded whole, or streamed record by record in bounded memory."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.loader.cache import Cache
from pixel_pipeline.lake.loader.catalogue import BucketCatalogue, CachedCatalogue, Catalogue, Location
from pixel_pipeline.lake.loader.content import BATCH_ROWS, Content, DatasetFormatError
from pixel_pipeline.lake.loader.forking import check_not_forked
from pixel_pipeline.lake.loader.json_elements import BYTE_ORDER_MARK, DEFAULT_MAX_RECORD_BYTES
from pixel_pipeline.lake.loader.json_records import JsonElements, JsonLines, OnError
from pixel_pipeline.lake.loader.resolution import (
    DatasetNameError,
    DatasetNotFoundError,
    checked_name,
    resolve,
    shown,
)
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.listing import list_prefixes
from pixel_pipeline.lake.s3.stream import Verify
from pixel_pipeline.settings import Settings, get_settings

SCHEME = "s3://"
LINES_SUFFIXES = (".jsonl", ".ndjson")
COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2")


class S3DatasetLoader:
    """Loads datasets of the lake by name.

    A name is searched in `gdrive/processed/<category>`, then `gdrive/raw`, then `acquired`; `s3://bucket/key`, whole keys and
    local paths are names too (`resolution.py`). Compressed content (gzip, zstd, bzip2) is decompressed, whatever the name.
    Every method that takes a name raises:

    - DatasetNotFoundError (a FileNotFoundError): there is no such dataset; the message lists the closest names.
    - DatasetNameError (a ValueError): no dataset can have this name. AmbiguousDatasetError: several have it.
    - ObjectChangedError: the object was replaced during the read. ObjectCorruptError: its bytes differ from the stored ones.

    With `cache_local`, a method keeps a local copy of the object, and reads it while the version on S3 is the same: True for
    the cache in PIXEL_HOME, or a folder. Canonical tables are not cached. If the disk is full, a warning is logged and the
    dataset is loaded without a copy.

    Args:
        lake: The lake; by default that of the environment, opened when first needed.
        cache: The cache for `cache_local=True`.
        offline: Read the last copy from the cache, and never contact S3; by default PIXEL_OFFLINE.
        verify: Compare streams with their MD5 if S3 provides it; a mismatch is raised at the end of the stream. "auto": on
            plain http, because TLS protects other connections. Whole objects and cached copies are always compared.

    Instances are thread-safe and can be pickled. A process forked after S3 was read gets a ForkedProcessError.
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
        # An unpickled loader opens its own lake.
        hidden = {"lake", "cache", "settings"}
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    @cached_property
    def settings(self) -> Settings:
        return get_settings()

    @cached_property
    def lake(self) -> Lake:
        return self._given_lake or Lake.open(self.settings)

    @cached_property
    def cache(self) -> Cache:
        return self._given_cache or Cache(self.settings.home / "cache", max_bytes=self.settings.cache_bytes)

    @property
    def offline(self) -> bool:
        return self.settings.offline if self._offline is None else self._offline

    def locate(self, name: str | Path, *, category: str | None = None, suggest: bool = True) -> Location:
        """Find a dataset and its current version. `suggest`: put close names into the error."""
        if isinstance(name, str) and name.lower().startswith(SCHEME):
            return self._locate_uri(name)
        if isinstance(name, str) and "://" in name:
            raise DatasetNameError(f"{shown(name)} is no URI of S3.", hint="Give it as s3://bucket/key.")
        bucket = self.settings.bucket if self._given_lake is None else self._given_lake.data.name
        return resolve(name, self._catalogue(bucket), category=category, suggest=suggest)

    def bucket_of(self, location: Location) -> Bucket:
        """Return the bucket of a located object or table."""
        return self._lake_of(location.bucket).data

    def get_path(self, name: str | Path, *, category: str | None = None) -> str:
        """Return `s3://bucket/key` of a dataset, or the path of a local one."""
        return self.locate(name, category=category).uri

    def object_exists(self, name: str | Path, *, category: str | None = None) -> bool:
        """True if there is a dataset of this name."""
        with suppress(DatasetNotFoundError):
            return bool(self.locate(name, category=category, suggest=False))
        return False

    def list_datasets(self, prefix: str | None = None) -> list[str]:
        """List the keys of the objects and canonical tables in a folder, sorted. Each can be used as a name.

        Args:
            prefix: A folder, e.g. `gdrive/processed/`; by default `gdrive/processed`, `gdrive/raw` and `acquired`.
        """
        folders = (keys.PROCESSED, *keys.RAW_TIERS) if prefix is None else (checked_name(prefix.rstrip("/")),)
        found = list_prefixes(self.lake.data, folders).objects["key"].to_pylist()
        tables = {key.split("/_delta_log/")[0] for key in found if "/_delta_log/" in key}

        def dataset(key: str) -> str:
            folders = (str(folder) for folder in PurePosixPath(key).parents)
            return next((folder for folder in folders if folder in tables), key)

        return sorted({dataset(key) for key in found})

    def load_dataset(
        self, name: str | Path, *, category: str | None = None, cache_local: bool | Path = False
    ) -> Any:
        """Load JSON Lines (`.jsonl`, `.ndjson`), Parquet and canonical tables as lists of records, and others as JSON documents."""
        content = self._content(name, category, cache_local)
        uri = content.location.uri
        suffixes = [each for each in PurePosixPath(uri.lower()).suffixes if each not in COMPRESSED_SUFFIXES]
        suffix = suffixes[-1] if suffixes else ""
        if content.location.is_table or suffix == ".parquet":
            return [row for batch in content.batches() for row in batch.to_pylist()]
        if suffix in LINES_SUFFIXES:
            return [*JsonLines(content.text(), uri=uri)]
        return content.json()

    def load_json(
        self, name: str | Path, *, category: str | None = None, cache_local: bool | Path = False
    ) -> Any:
        """Load the value of a JSON document. Raises DatasetFormatError if it is not JSON."""
        return self._content(name, category, cache_local).json()

    def load_bytes(
        self, name: str | Path, *, category: str | None = None, cache_local: bool | Path = False
    ) -> bytes:
        """Load the decompressed content. Raises DatasetTooLargeError above 8 GiB."""
        return self._content(name, category, cache_local).load()

    def load_text(
        self, name: str | Path, *, category: str | None = None, cache_local: bool | Path = False
    ) -> str:
        """Load the content as text, without byte order mark. Raises DatasetFormatError if it is not UTF-8."""
        content = self._content(name, category, cache_local)
        try:
            return content.load().removeprefix(BYTE_ORDER_MARK).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DatasetFormatError(
                f"{content.location.uri} is not UTF-8 at byte {error.start:,}."
            ) from None

    def stream_jsonl(
        self,
        name: str | Path,
        *,
        category: str | None = None,
        cache_local: bool | Path = False,
        on_error: OnError = "raise",
        start_offset: int = 0,
        max_line_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    ) -> JsonLines:
        """Iterate over the records of JSON Lines, in memory bounded by the longest line.

        Args:
            on_error: How to treat a line that is not JSON: "raise" JsonRecordError; "skip" and count it in the iterator's
                `skipped`; "collect" it in its `errors` as well; or call a function with the BadRecord.
            start_offset: Offset in the decompressed text where reading begins: the `next_offset` of an earlier iterator.
            max_line_bytes: A longer line is treated as an error.
        """
        content = self._content(name, category, cache_local)
        return JsonLines(
            content.text(start=start_offset),
            uri=content.location.uri,
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
        max_element_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    ) -> JsonElements:
        """Iterate over the elements of a JSON array, in memory bounded by the largest of them.

        Args:
            field: The member with the array, if the document is an object.
            on_error: As in `stream_jsonl`, for an element that is not JSON.
            max_element_bytes: A larger element is treated as an error.

        Raises:
            JsonStructureError: while iterating, if the document is no such array, ends early, or continues after it.
        """
        content = self._content(name, category, cache_local)
        return JsonElements(
            content.text(),
            uri=content.location.uri,
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
        """Iterate over record batches of a Parquet object or canonical table, in memory bounded by a row group.

        Args:
            columns: Columns to fetch; all by default.
            filter: Rows to keep, e.g. `pyarrow.compute.field("language") == "en"`; row groups without any are not fetched.
            batch_size: Maximum rows of a batch.

        Raises:
            DatasetFormatError: while iterating, if it is not Parquet or lacks a column.
        """
        content = self._content(name, category, cache_local)
        return content.batches(columns=columns, filter=filter, batch_size=batch_size)

    def _content(self, name: str | Path, category: str | None, cache_local: bool | Path) -> Content:
        location = self.locate(name, category=category)
        is_remote = location.path is None and not self.offline
        cache = self.cache if self.offline or cache_local is True else None
        if cache is None and not isinstance(cache_local, bool):
            cache = Cache(Path(cache_local), max_bytes=self.cache.max_bytes)
        lake = self._lake_of(location.bucket) if is_remote else None
        return Content(location, lake=lake, cache=cache, verify=self.verify)

    def _locate_uri(self, uri: str) -> Location:
        bucket, _, key = uri[len(SCHEME) :].partition("/")
        if not bucket or not key:
            raise DatasetNameError(f"{shown(uri)} names no object.", hint="Give it as s3://bucket/key.")
        return resolve(key, self._catalogue(bucket), exact=True)

    def _catalogue(self, bucket: str) -> Catalogue:
        if self.offline:
            return CachedCatalogue(self.cache, bucket=bucket)
        return BucketCatalogue(self._lake_of(bucket))

    def _lake_of(self, bucket: str) -> Lake:
        """Return the lake with the given bucket as its data bucket."""
        check_not_forked()
        if bucket == self.lake.data.name:
            return self.lake
        return replace(self.lake, data=Bucket(name=bucket, target=self.lake.target))


def load_dataset_from_s3(
    name: str | Path, category: str | None = None, cache_local: bool | Path = False
) -> Any:
    """Load a dataset by name: `S3DatasetLoader().load_dataset`.

    Args:
        name: E.g. `dataset.json`, a whole key, `s3://bucket/key` or a local path.
        category: Folder of `gdrive/processed` to search first.
        cache_local: Keep and use a local copy: True for the cache in PIXEL_HOME, or a folder.

    Returns:
        The value of a JSON document; a list of records for JSON Lines, Parquet and canonical tables.
    """
    return S3DatasetLoader().load_dataset(name, category=category, cache_local=cache_local)


def get_s3_dataset_path(name: str | Path, category: str | None = None) -> str:
    """Return `s3://bucket/key` of a dataset, or the path of a local one: `S3DatasetLoader().get_path`."""
    return S3DatasetLoader().get_path(name, category=category)
