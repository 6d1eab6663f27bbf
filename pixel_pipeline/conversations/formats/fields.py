"""Access to a record's keys: found in any case, and named in a reason only if that cannot disclose conversation text."""

from collections.abc import Iterable
from functools import lru_cache
import re
from typing import Any

from pixel_pipeline.conversations.model.records import RecordError

_NAMEABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_MOST_NAMED = 20
_WIDEST_CACHED = 64


def key_names(record: dict[str, Any]) -> dict[str, str]:
    """Map a record's keys, lower case and stripped, to their own spelling; the first of several that differ only so wins."""
    if len(record) > _WIDEST_CACHED:
        return _lower_names(tuple(record))
    return _cached_names(tuple(record))


def first_key(names: dict[str, str], spellings: Iterable[str]) -> str | None:
    """Return the record's own key for the first spelling that it has."""
    for spelling in spellings:
        if spelling in names:
            return names[spelling]
    return None


def text_of(record: dict[str, Any], key: str) -> str:
    """Return the text under a key.

    Raises:
        RecordError: `not_text`.
    """
    value = record[key]
    if isinstance(value, str):
        return value
    raise RecordError("not_text", f"expected text under {describe_key(key)}, found {type(value).__name__}")


def optional_text(record: dict[str, Any], key: str | None) -> str:
    """Return the text under a key, or "" if the key is missing or null or its text is blank."""
    if key is None or record[key] is None:
        return ""
    text = text_of(record, key)
    return "" if text.isspace() else text


def without(record: dict[str, Any], keys: Iterable[str | None]) -> dict[str, Any]:
    """Return a record without some of its keys."""
    excluded = set(keys)
    return {key: value for key, value in record.items() if key not in excluded}


def describe_key(key: str) -> str:
    """Name a key in a reason if it is a short identifier; any other key may be conversation text."""
    return f"`{key}`" if _NAMEABLE.fullmatch(key) else f"a key of {len(key)} characters"


def nameable_keys(keys: Iterable[Any]) -> list[str]:
    """Return the keys that are short identifiers; any other may be conversation text."""
    return [key for key in keys if isinstance(key, str) and _NAMEABLE.fullmatch(key)]


def describe_keys(record: Any) -> str:
    """Describe a record in a reason: its sorted keys, naming only short identifiers."""
    if not isinstance(record, dict):
        kind = type(record).__name__
        return {"str": "a text", "list": "a list", "NoneType": "null"}.get(kind, f"a {kind}")
    nameable = sorted(nameable_keys(record))[:_MOST_NAMED]
    others = len(record) - len(nameable)
    return f"the keys {', '.join(nameable) or 'none'}" + (f" and {others} not named here" if others else "")


def _lower_names(keys: tuple[str, ...]) -> dict[str, str]:
    names: dict[str, str] = {}
    for key in keys:
        names.setdefault(key.strip().lower(), key)
    return names


# Thousands of records share one set of keys.
_cached_names = lru_cache(maxsize=1024)(_lower_names)
