"""Listings of many folders at once, as Arrow tables, without a Python object per key."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import obstore
from obstore import exceptions as s3_errors
import pyarrow as pa
import pyarrow.compute as pc

from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.control import control_client, controlled
from pixel_pipeline.lake.s3.errors import KeyNameError
from pixel_pipeline.lake.s3.object_keys import checked_key
from pixel_pipeline.lake.s3.objects import bare_etag

INVENTORY_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""One row per object: full key, size in bytes, ETag without quotes, time of the last write. Sorted by key."""

# S3 returns the pages of a listing one after another; only several listings at once are faster.
THREADS = 16
# Folders are opened until there are this many to distribute …
ENOUGH_FOLDERS = 32
# … unless there are so many that one request each would cost more than the pages of all.
TOO_MANY_FOLDERS = 1000
DEEPEST = 4
CHUNK_ROWS = 5_000
_REPLACEMENT = "\ufffd"
# XML has no control characters, so servers replace them; a folder with a backslash cannot be asked for by its name.
_DOUBTFUL = (_REPLACEMENT, "\\")


@dataclass(frozen=True)
class Listing:
    """The objects below some prefixes.

    Attributes:
        objects: Table of INVENTORY_SCHEMA, sorted by key.
        unreadable: Keys of objects that our client cannot address, sorted.
        markers: Number of directory markers (empty objects `folder/`), which are not among the objects.
    """

    objects: pa.Table
    unreadable: list[str] = field(default_factory=list)
    markers: int = 0


def list_prefixes(bucket: Bucket, prefixes: Iterable[str]) -> Listing:
    """List everything below some folders, none inside another.

    Our client refuses a whole listing for one key that it cannot represent; such folders are listed again by a slower one.
    """
    prefixes = [*prefixes]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="listing") as pool:
        found: list[Listing] = []
        folders = prefixes
        for _ in range(DEEPEST):
            if not 0 < len(folders) < ENOUGH_FOLDERS:
                break
            opened = [*pool.map(partial(_open, bucket), folders)]
            found += chain.from_iterable(objects for objects, _ in opened)
            folders = [*chain.from_iterable(inner for _, inner in opened)]
        found += pool.map(partial(_list, bucket), folders)
        listing = _combined(bucket, found, pool)
        if _has_duplicates(listing.objects):
            listing = _combined(bucket, [*pool.map(partial(_list_exactly, bucket), prefixes)], pool)
    return listing


def _open(bucket: Bucket, folder: str) -> tuple[list[Listing], list[str]]:
    """List the objects directly in a folder, and its sub-folders."""
    with bucket.translated("list", folder):
        try:
            level = obstore.list_with_delimiter(bucket.store, folder, return_arrow=True)
        except s3_errors.InvalidPathError:
            return [_list_exactly(bucket, folder)], []
    if len(level["common_prefixes"]) > TOO_MANY_FOLDERS:
        return [_list(bucket, folder)], []
    objects = _columns(pa.table(level["objects"]))
    folders = [*level["common_prefixes"]]
    if _is_mangled(objects["key"]) or any(odd in name for odd in _DOUBTFUL for name in folders):
        return [_list_exactly(bucket, folder)], []
    return [Listing(objects)], folders


def _list(bucket: Bucket, folder: str) -> Listing:
    """List everything below a folder."""
    with bucket.translated("list", folder):
        try:
            tables = [
                _columns(pa.table(batch))
                for batch in obstore.list(bucket.store, folder, chunk_size=CHUNK_ROWS, return_arrow=True)
            ]
        except s3_errors.InvalidPathError:
            return _list_exactly(bucket, folder)
    objects = pa.concat_tables([INVENTORY_SCHEMA.empty_table(), *tables])
    return _list_exactly(bucket, folder) if _is_mangled(objects["key"]) else Listing(objects)


def _is_mangled(names: pa.ChunkedArray) -> bool:
    """True if a key may differ from the one that was listed, or cannot be read."""
    return any(pc.any(pc.match_substring(names, odd)).as_py() for odd in _DOUBTFUL)


def _columns(objects: pa.Table) -> pa.Table:
    return pa.table(
        [
            objects["path"],
            objects["size"],
            pc.utf8_trim(pc.fill_null(objects["e_tag"], ""), '"'),
            objects["last_modified"],
        ],
        names=INVENTORY_SCHEMA.names,
    ).cast(INVENTORY_SCHEMA)


def _list_exactly(bucket: Bucket, folder: str) -> Listing:
    """List everything below a folder with exact keys, at ten times the cost."""
    rows: list[tuple[object, ...]] = []
    unreadable: list[str] = []
    markers = 0
    with controlled(f"list {bucket.uri(folder)}", target=bucket.target):
        pages = control_client(bucket.target).get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket.name, Prefix=f"{folder}/"):
            for item in page.get("Contents", []):
                key, size = item["Key"], item["Size"]
                if key.endswith("/") and size == 0:
                    markers += 1
                elif not _is_readable(key):
                    unreadable.append(key)
                else:
                    rows.append((key, size, bare_etag(item["ETag"]), item["LastModified"]))
    columns = zip(*rows, strict=True) if rows else ([] for _ in INVENTORY_SCHEMA)
    objects = pa.table([pa.array(column) for column in columns], names=INVENTORY_SCHEMA.names)
    return Listing(objects.cast(INVENTORY_SCHEMA), unreadable, markers)


def _is_readable(key: str) -> bool:
    try:
        checked_key(key)
    except KeyNameError:
        return False
    return True


def _combined(bucket: Bucket, parts: list[Listing], pool: ThreadPoolExecutor) -> Listing:
    """Combine the parts, sorted, and look up each object whose key may be wrong.

    The client lists a directory marker `folder/` as the empty object `folder`, and undecodable keys look like others.
    """
    objects = pa.concat_tables([part.objects for part in parts]).sort_by("key")
    unreadable = [*chain.from_iterable(part.unreadable for part in parts)]
    markers = sum(part.markers for part in parts)
    doubtful = pc.or_(pc.equal(objects["size"], 0), pc.match_substring(objects["key"], _REPLACEMENT))
    if pc.any(doubtful).as_py():
        rows = objects.filter(doubtful).to_pylist()
        are_real = [*pool.map(partial(_is_there, bucket), rows)]
        kept = [row for row, is_real in zip(rows, are_real, strict=True) if is_real]
        gone = [row for row, is_real in zip(rows, are_real, strict=True) if not is_real]
        markers += sum(row["size"] == 0 for row in gone)
        unreadable += [row["key"] for row in gone if row["size"] != 0]
        rest = objects.filter(pc.invert(doubtful))
        objects = pa.concat_tables([rest, pa.Table.from_pylist(kept, INVENTORY_SCHEMA)]).sort_by("key")
    return Listing(objects, sorted(unreadable), markers)


def _is_there(bucket: Bucket, row: dict[str, Any]) -> bool:
    """True if the listed object exists at exactly the listed key."""
    found = bucket.find(row["key"])
    return found is not None and found.size == row["size"]


def _has_duplicates(objects: pa.Table) -> bool:
    names = objects["key"].combine_chunks()
    return bool(pc.any(pc.equal(names[1:], names[:-1])).as_py())
