"""Looking at a record's keys: spelled in any case, named in a reason only where that gives nothing away."""

from collections.abc import Iterable
from functools import lru_cache
import re
from typing import Any

from pixel_pipeline.conversations.model.records import RecordError

_NAMEABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_MOST_NAMED = 20
_WIDEST_CACHED = 64


def key_names(record: dict[str, Any]) -> dict[str, str]:
    """Returns a record's keys by their lower-case spelling, stripped; of two that only differ so, the
    first."""
    if len(record) > _WIDEST_CACHED:
        return _lower_names(tuple(record))
    return _cached_names(tuple(record))


def first_key(names: dict[str, str], spellings: Iterable[str]) -> str | None:
    """Returns the record's own key for the first of the spellings that it has."""
    for spelling in spellings:
        if spelling in names:
            return names[spelling]
    return None


def text_of(record: dict[str, Any], key: str) -> str:
    """Returns the text under a key.

    Raises:
        RecordError: `not_text`.
    """
    value = record[key]
    if isinstance(value, str):
        return value
    raise RecordError("not_text", f"expected text under {describe_key(key)}, found {type(value).__name__}")


def besides(record: dict[str, Any], used: Iterable[str | None]) -> dict[str, Any]:
    """Returns what a record has besides the keys that were used."""
    taken = set(used)
    return {key: value for key, value in record.items() if key not in taken}


def optional_text(record: dict[str, Any], key: str | None) -> str:
    """Returns the text under a key, or "" where the key is absent or null or its text is blank."""
    if key is None or record[key] is None:
        return ""
    text = text_of(record, key)
    return "" if text.isspace() else text


def describe_key(key: str) -> str:
    """Names a key for a reason, where it is a short identifier; any other may be what somebody said."""
    return f"`{key}`" if _NAMEABLE.fullmatch(key) else f"a key of {len(key)} characters"


def nameable_keys(keys: Iterable[Any]) -> list[str]:
    """Returns those keys that are short identifiers; any other may be what somebody said."""
    return [key for key in keys if isinstance(key, str) and _NAMEABLE.fullmatch(key)]


def describe_keys(record: Any) -> str:
    """Describes a record for a reason: its sorted keys, without any that is not a short identifier."""
    if not isinstance(record, dict):
        return {"str": "a text", "list": "a list", "NoneType": "null"}.get(
            type(record).__name__, f"a {type(record).__name__}"
        )
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
