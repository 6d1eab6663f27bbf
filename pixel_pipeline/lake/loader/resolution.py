"""From the name of a dataset to where it lies."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import difflib
import heapq
import os
from pathlib import Path
from typing import NoReturn, Protocol
import unicodedata

import obstore

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.s3.bucket import Bucket, ObjectInfo
from pixel_pipeline.lake.s3.errors import KeyNameError, ObjectNotFoundError
from pixel_pipeline.lake.s3.etags import bare_etag
from pixel_pipeline.lake.s3.object_keys import KEY_BYTES, checked_key
from pixel_pipeline.lake.tables.table import Table, TableMissingError

# First folders of the lake: a name that begins with one is a whole key.
ROOTS = {"gdrive", keys.ACQUIRED, keys.CURATED, keys.TOKENS, "config", "final_dataset", "exports", "_pixel"}
LOCAL_PREFIXES = ("./", "../", "/", "~")
BIDI_CONTROLS = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
THREADS = 16
MAX_SHOWN = 5


class DatasetNameError(PixelError, ValueError):
    """A text that cannot be the name of a dataset."""


class DatasetNotFoundError(PixelError, FileNotFoundError):
    """No dataset has the name. The message lists every place that was looked at, and the closest names there are."""


class AmbiguousDatasetError(PixelError, LookupError):
    """Several datasets have the name."""


@dataclass(frozen=True)
class Location:
    """Where a dataset lies: an object (`info`), a Delta table, or a local file (`path`).

    Attributes:
        uri: `s3://bucket/key`, or the local path.
        bucket: Name of the bucket; empty for a local file.
        key: Key of the object or table.
        info: The version of the object that lies there now.
    """

    uri: str
    bucket: str = ""
    key: str = ""
    info: ObjectInfo | None = None
    path: Path | None = None

    @property
    def is_table(self) -> bool:
        return self.info is None and self.path is None


class Catalogue(Protocol):
    """What there is in one bucket: the lake itself, or what a cache holds of it.

    Attributes:
        kind: What it is that a missing name is none of.
        advice: What to do about a missing name that is like no other.
    """

    kind: str
    advice: str

    @property
    def bucket(self) -> str: ...

    def find(self, key: str) -> Location | None:
        """The object or table at exactly this key."""

    def categories(self) -> list[str]:
        """Folders of `gdrive/processed`."""

    def raw_keys(self) -> Iterator[list[str]]:
        """Keys of the raw tiers; if they are known from several sources, the cheap one first."""

    def processed_keys(self) -> list[str]:
        """Objects and tables directly in the categories."""


class BucketCatalogue:
    """What lies in a bucket now."""

    kind = "dataset"
    advice = "List what there is by S3DatasetLoader().list_datasets()."

    def __init__(self, lake: Lake, *, bucket: Bucket | None = None) -> None:
        self._lake = lake
        self._bucket = bucket or lake.data

    @property
    def bucket(self) -> str:
        return self._bucket.name

    def find(self, key: str) -> Location | None:
        uri = self._bucket.uri(key)
        try:
            with self._bucket.translated("look up", key):
                found = obstore.head(self._bucket.store, key)
        except ObjectNotFoundError:
            log = f"{key}/_delta_log"
            is_table = len(log.encode()) <= KEY_BYTES and next(self._bucket.list(log), None) is not None
            return Location(uri, self.bucket, key) if is_table else None
        info = ObjectInfo(
            key=key, size=found["size"], etag=bare_etag(found["e_tag"]), last_modified=found["last_modified"]
        )
        return Location(uri, self.bucket, key, info)

    def categories(self) -> list[str]:
        return [folder.rsplit("/", 1)[1] for folder in self._level(keys.PROCESSED)[1]]

    def raw_keys(self) -> Iterator[list[str]]:
        try:
            inventory = Table(self._lake, keys.INVENTORY).dataset().to_table(columns=["key"])
            yield inventory["key"].to_pylist()
        except TableMissingError:
            pass
        # What came after the inventory was taken, or where none was.
        yield list_raw(self._lake).objects["key"].to_pylist()

    def processed_keys(self) -> list[str]:
        folders = [f"{keys.PROCESSED}/{category}" for category in self.categories()]
        with ThreadPoolExecutor(THREADS) as pool:
            return [key for objects, tables in pool.map(self._level, folders) for key in (*objects, *tables)]

    def _level(self, folder: str) -> tuple[list[str], list[str]]:
        """Objects and folders directly in a folder."""
        with self._bucket.translated("list", folder):
            level = obstore.list_with_delimiter(self._bucket.store, folder)
        return [item["path"] for item in level["objects"]], [*level["common_prefixes"]]


def resolve(
    name: str | Path,
    catalogue: Catalogue,
    *,
    category: str | None = None,
    exact: bool = False,
    suggest: bool = True,
) -> Location:
    """Find a dataset: `gdrive/processed/<category>`, then `gdrive/raw`, then `acquired`; the first that exists.

    Args:
        name: A dataset's name, a whole key (`gdrive/raw/x.json`) or a local file: one that exists, or a path that begins with
            `./`, `../`, `/` or `~`. In the raw tiers a name also stands for the one object that has it in a sub-folder.
        category: Where to look in `processed`; without it, in every category. A name with a category is never a local file.
        exact: The name is a whole key, and nothing else is looked at.
        suggest: Look for close names to put into the error.

    Raises:
        DatasetNameError: no dataset can have this name.
        DatasetNotFoundError: none has it.
        AmbiguousDatasetError: several have it.
    """
    text = checked_name(os.fspath(name))
    if category is None and not exact and (path := local_path(name)) is not None:
        return path
    whole_key = text.split("/", 1)[0] in ROOTS
    inside = f"{checked_name(category, what='category')}/{text}" if category is not None else text
    for key in (text, inside):
        _checked(key, name=text)
    tried: list[str] = []

    def possible(*candidates: str) -> list[str]:
        # A name may be as long as a key, so that no folder can have it.
        fitting = [key for key in candidates if len(key.encode()) <= KEY_BYTES]
        tried.extend(fitting)
        return fitting

    def first(*candidates: str) -> Location | None:
        found = map(catalogue.find, possible(*candidates))
        return next((place for place in found if place is not None), None)

    if exact or (whole_key and category is None):
        return first(text) or _missing(text, catalogue, tried=tried, suggest=suggest)
    categories = catalogue.categories() if category is None else [category]
    candidates = possible(*(f"{keys.PROCESSED}/{each}/{text}" for each in categories))
    with ThreadPoolExecutor(THREADS) as pool:
        several = [found for found in pool.map(catalogue.find, candidates) if found is not None]
    if several:
        return _only(several, name=text)
    if not categories:
        tried.append(f"{keys.PROCESSED}/*/{text}")
    for tier in keys.RAW_TIERS:
        places = [f"{tier}/{text}"] if category is None else [f"{tier}/{inside}", f"{tier}/{text}"]
        if found := first(*places) or _in_sub_folder(text, tier, catalogue, category=category):
            return found
        tried.append(f"{tier}/**/{text}")
    if whole_key and (found := first(text)):
        return found
    _missing(text, catalogue, tried=tried, suggest=suggest)


def checked_name(name: str, *, what: str = "name of a dataset") -> str:
    """The name itself. Raises DatasetNameError for one that is no text, or that shows as another text than it is."""
    for wrong, reason in (
        (not name.strip(), "it is empty"),
        (any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name), "it has control characters"),
        (not BIDI_CONTROLS.isdisjoint(name), "it has characters that change the direction of writing"),
    ):
        if wrong:
            raise DatasetNameError(f"{shown(name)} cannot be the {what}: {reason}.")
    return name


def local_path(name: str | Path) -> Location | None:
    """A local file, for a name that is one. Raises DatasetNotFoundError for a local path with no file."""
    # Unlike the methods of Path, these take an unknown user or a name too long for a file as names like any other.
    path = Path(os.path.expanduser(name))
    if os.path.isfile(path):
        return Location(str(path), path=path)
    if isinstance(name, Path) or name.startswith(LOCAL_PREFIXES):
        raise DatasetNotFoundError(
            f"There is no file {shown(str(path))}.",
            hint="A name that begins with ./ ../ / or ~ is a local path; names in the lake begin with none of these.",
        )
    return None


def shown(text: str) -> str:
    """A name for a message: what does not print, or is long, is escaped or cut."""
    cut = text if len(text) <= 200 else f"{text[:199]}…"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in f"'{cut}'")


def _checked(key: str, *, name: str) -> None:
    try:
        checked_key(key)
    except KeyNameError as error:
        reason = error.message.rpartition(": ")[2]
        raise DatasetNameError(f"{shown(name)} cannot be the name of a dataset: {reason}") from None


def _in_sub_folder(name: str, tier: str, catalogue: Catalogue, *, category: str | None) -> Location | None:
    for known in catalogue.raw_keys():
        having = [key for key in known if key.startswith(f"{tier}/") and key.endswith(f"/{name}")]
        in_category = [key for key in having if category in key.split("/")]
        found = [place for key in in_category or having if (place := catalogue.find(key)) is not None]
        if found:
            return _only(found, name=name)
    return None


def _only(found: list[Location], *, name: str) -> Location:
    if len(found) > 1:
        places = "".join(f"\n  {shown(place.uri)}" for place in found[:MAX_SHOWN])
        more = f"\n  and {len(found) - MAX_SHOWN:,} more" if len(found) > MAX_SHOWN else ""
        raise AmbiguousDatasetError(
            f"{len(found):,} datasets are called {shown(name)}:{places}{more}",
            hint="Give the category, or the whole key.",
        )
    return found[0]


def _missing(name: str, catalogue: Catalogue, *, tried: list[str], suggest: bool) -> NoReturn:
    message = f"There is no {catalogue.kind} {shown(name)}. Looked at:" + "".join(
        f"\n  s3://{catalogue.bucket}/{shown(key)[1:-1]}" for key in tried
    )
    hint = catalogue.advice
    if suggest:
        *_, raw = catalogue.raw_keys()
        if closest := closest_names(name, [*catalogue.processed_keys(), *raw]):
            hint = "The closest there are:" + "".join(f"\n  {line}" for line in closest)
    raise DatasetNotFoundError(message, hint=hint)


def closest_names(name: str, known: Iterable[str]) -> list[str]:
    """The keys whose file names are most like a name, for a message; the work is linear in their number."""
    wanted = name.rsplit("/", 1)[-1]
    same = unicodedata.normalize("NFKC", wanted).casefold()
    pairs = _pairs(same)
    by_name: dict[str, str] = {}
    scored: list[tuple[float, str]] = []
    for key in known:
        file_name = key.rsplit("/", 1)[-1]
        if file_name in by_name:
            continue
        by_name[file_name] = key
        normal = unicodedata.normalize("NFKC", file_name).casefold()
        others = _pairs(normal)
        likeness = 2.0 if normal == same else len(pairs & others) / (len(pairs | others) or 1)
        scored.append((likeness, file_name))
    # The exact measure is quadratic in a name's length: for the likeliest alone.
    likely = [file_name for likeness, file_name in heapq.nlargest(100, scored) if likeness > 0]
    equal = [file_name for file_name in likely if unicodedata.normalize("NFKC", file_name).casefold() == same]
    close = difflib.get_close_matches(wanted, likely, n=MAX_SHOWN, cutoff=0.5)
    lines = []
    for file_name in [*dict.fromkeys([*equal, *close])][:MAX_SHOWN]:
        line = shown(by_name[file_name])[1:-1]
        differs = file_name in equal and file_name.casefold() != wanted.casefold()
        lines.append(f"{line} (looks the same; its characters are {file_name!a})" if differs else line)
    return lines


def _pairs(text: str) -> set[str]:
    return {text[place : place + 2] for place in range(len(text) - 1)}
