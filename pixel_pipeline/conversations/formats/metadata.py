"""A record's metadata as JSON, and records written back as JSON for quarantine."""

from datetime import date, time
import math
import re
from typing import Any

import orjson

from pixel_pipeline.conversations.model.records import RecordError

# orjson writes 254 levels; deeper nesting is hostile or broken.
_MAX_DEPTH = 200
LANGUAGE_KEYS = ("language", "lang", "locale")
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,2}")


def dump(metadata: dict[str, Any]) -> str:
    """Return metadata as a JSON object.

    Numbers that JSON cannot hold become null or text, broken surrogates become U+FFFD, bytes become their size.

    Raises:
        RecordError: `nesting_too_deep`.
    """
    if not metadata:
        return "{}"
    return _dumps(metadata).decode()


def raw_json(value: Any) -> bytes | None:
    """Return a record written back as JSON, or None if it is nested too deep."""
    try:
        return _dumps(value)
    except RecordError:
        return None


def split_language(metadata: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Separate the language from metadata, if the source names one as a tag such as `tr` or `pt-BR`."""
    for key in LANGUAGE_KEYS:
        value = metadata.get(key)
        if isinstance(value, str) and _LANGUAGE_TAG.fullmatch(value):
            rest = {name: item for name, item in metadata.items() if name != key}
            return value.lower().replace("_", "-"), rest
    return None, metadata


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return orjson.dumps(_plain(value, 0), option=orjson.OPT_SORT_KEYS)


def _plain(value: Any, depth: int) -> Any:
    """Return value with everything replaced that orjson cannot write."""
    if depth > _MAX_DEPTH:
        raise RecordError("nesting_too_deep", f"nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {_plain_text(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    return _plain_text(str(value))


def _plain_text(text: str) -> str:
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text
