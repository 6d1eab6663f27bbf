"""From the name of a dataset to its location."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
import difflib
import heapq
import os
from pathlib import Path
from typing import NoReturn

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.loader.catalogue import THREADS, Catalogue, Location
from pixel_pipeline.lake.s3.errors import KeyNameError
from pixel_pipeline.lake.s3.object_keys import KEY_BYTES, checked_key
from pixel_pipeline.words import printable

# First folders of the lake: a name that begins with one is a whole key.
ROOTS = {"gdrive", keys.ACQUIRED, keys.CURATED, keys.TOKENS, "config", "final_dataset", "exports", "_pixel"}
LOCAL_PREFIXES = ("./", "../", "/", "~")
MAX_SHOWN = 5


class DatasetNameError(PixelError, ValueError):
    """A text that cannot be the name of a dataset."""


class DatasetNotFoundError(PixelError, FileNotFoundError):
    """No dataset has the name. The message lists every place that was searched, and the closest existing names."""


class AmbiguousDatasetError(PixelError, LookupError):
    """Several datasets have the name."""


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
            `./`, `../`, `/` or `~`. In the raw tiers a name also matches a single object of that name in a sub-folder.
        category: Category to search in `processed`; every one by default. A name with a category is never a local file.
        exact: The name is a whole key, and no other place is searched.
        suggest: Look for close names to put into the error.

    Raises:
        DatasetNameError: no dataset can have this name.
        DatasetNotFoundError: none has it.
        AmbiguousDatasetError: several have it.
    """
    text = os.fspath(name)
    if category is None and not exact and (path := local_path(name)) is not None:
        return path
    whole_key = text.split("/", 1)[0] in ROOTS
    inside = text if category is None else f"{category}/{text}"
    for key in (text, inside):
        checked_name(key)
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


def checked_name(name: str) -> str:
    """Return the name. Raises DatasetNameError if it cannot be a key."""
    try:
        return checked_key(name)
    except KeyNameError as error:
        reason = error.message.rpartition(": ")[2]
        raise DatasetNameError(f"{shown(name)} cannot be the name of a dataset: {reason}") from None


def local_path(name: str | Path) -> Location | None:
    """Return the local file of this name, if there is one. Raises DatasetNotFoundError for a local path without a file."""
    # Unlike the methods of Path, these accept an unknown user and a name that is too long for a file.
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
    """Quote a name for a message: cut if it is long, characters that do not print escaped."""
    return f"'{printable(text if len(text) <= 200 else f'{text[:199]}…')}'"


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
    message = f"There is no {catalogue.kind} {shown(name)}. Searched:" + "".join(
        f"\n  s3://{catalogue.bucket}/{shown(key)[1:-1]}" for key in tried
    )
    hint = catalogue.advice
    if suggest:
        *_, raw = catalogue.raw_keys()
        if closest := closest_names(name, [*catalogue.processed_keys(), *raw]):
            hint = "The closest names are:" + "".join(f"\n  {line}" for line in closest)
    raise DatasetNotFoundError(message, hint=hint)


def closest_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the keys whose file names resemble a name most. Names that are not ASCII are also shown escaped."""
    wanted = name.rsplit("/", 1)[-1]
    pairs = _pairs(wanted)
    by_name: dict[str, str] = {}
    for key in known:
        by_name.setdefault(key.rsplit("/", 1)[-1], key)

    def likeness(file_name: str) -> float:
        others = _pairs(file_name)
        return len(pairs & others) / (len(pairs | others) or 1)

    # difflib's measure is quadratic in a name's length, so it ranks only the most likely names.
    likely = heapq.nlargest(100, by_name, key=likeness)
    lines = []
    for file_name in difflib.get_close_matches(wanted, likely, n=MAX_SHOWN, cutoff=0.5):
        key = shown(by_name[file_name])[1:-1]
        lines.append(key if file_name.isascii() else f"{key} (its characters are {file_name!a})")
    return lines


def _pairs(text: str) -> set[str]:
    return {text[place : place + 2].casefold() for place in range(len(text) - 1)}
