"""The datasets of one bucket, in the lake or in a cache of it, found by key and listed by tier."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import obstore

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.loader.cache import Cache
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.s3.bucket import ObjectInfo
from pixel_pipeline.lake.s3.object_keys import KEY_BYTES
from pixel_pipeline.lake.tables.table import Table, TableMissingError

THREADS = 16


@dataclass(frozen=True)
class Location:
    """Where a dataset is: an object (`info`), a Delta table, or a local file (`path`).

    Attributes:
        uri: `s3://bucket/key`, or the local path.
        bucket: Name of the bucket; empty for a local file.
        key: Key of the object or table.
        info: The current version of the object.
    """

    uri: str
    bucket: str = ""
    key: str = ""
    info: ObjectInfo | None = None
    path: Path | None = None

    @property
    def is_table(self) -> bool:
        return self.info is None and self.path is None


class BucketCatalogue:
    """The present content of a lake's data bucket.

    Attributes:
        kind: Name of a dataset in errors.
        advice: Hint for a missing name that resembles no other.
    """

    kind = "dataset"
    advice = "List the existing ones by S3DatasetLoader().list_datasets()."

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    @property
    def bucket(self) -> str:
        return self._lake.data.name

    def find(self, key: str) -> Location | None:
        """Return the object or table at exactly this key."""
        bucket = self._lake.data
        info = bucket.find(key)
        if info is None:
            log = f"{key}/_delta_log"
            if len(log.encode()) > KEY_BYTES or next(bucket.list(log), None) is None:
                return None
        return Location(bucket.uri(key), bucket.name, key, info)

    def categories(self) -> list[str]:
        """Return the folders of `gdrive/processed`."""
        return [folder.rsplit("/", 1)[1] for folder in self._level(keys.PROCESSED)[1]]

    def raw_keys(self) -> Iterator[list[str]]:
        """Iterate over lists of the keys of the raw tiers, the cheapest source first."""
        try:
            inventory = Table(self._lake, keys.INVENTORY).dataset().to_table(columns=["key"])
            yield inventory["key"].to_pylist()
        except TableMissingError:
            pass
        # For objects that are newer than the inventory.
        yield list_raw(self._lake).objects["key"].to_pylist()

    def processed_keys(self) -> list[str]:
        """Return the objects and tables directly in the categories."""
        folders = [f"{keys.PROCESSED}/{category}" for category in self.categories()]
        with ThreadPoolExecutor(THREADS) as pool:
            return [key for objects, tables in pool.map(self._level, folders) for key in (*objects, *tables)]

    def _level(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the objects and folders directly in a folder."""
        bucket = self._lake.data
        with bucket.translated("list", folder):
            level = obstore.list_with_delimiter(bucket.store, folder)
        return [item["path"] for item in level["objects"]], [*level["common_prefixes"]]


class CachedCatalogue:
    """The same of a cache's copies of a bucket's objects; tables are not cached."""

    kind = "local copy of a dataset"
    advice = "Load it once with cache_local=True and without PIXEL_OFFLINE."

    def __init__(self, cache: Cache, *, bucket: str) -> None:
        self._cache = cache
        self.bucket = bucket

    def find(self, key: str) -> Location | None:
        info = self._cache.find(self.bucket, key)
        return None if info is None else Location(f"s3://{self.bucket}/{key}", self.bucket, key, info)

    def categories(self) -> list[str]:
        depth = keys.PROCESSED.count("/") + 1
        return sorted({key.split("/")[depth] for key in self.processed_keys()})

    def raw_keys(self) -> Iterator[list[str]]:
        yield self._keys(keys.RAW_TIERS)

    def processed_keys(self) -> list[str]:
        return self._keys([keys.PROCESSED])

    def _keys(self, tiers: Iterable[str]) -> list[str]:
        known = sorted(key for bucket, key in self._cache.names() if bucket == self.bucket)
        return [key for key in known if key.startswith(tuple(f"{tier}/" for tier in tiers))]


Catalogue = BucketCatalogue | CachedCatalogue
