"""Lenient JSON parsing: strict and fast first, then with repairs for common mistakes of JSON writers, each counted."""

import json
import math
from typing import Any

import orjson

from pixel_pipeline.conversations.model.records import RecordError, count
from pixel_pipeline.conversations.text.cleaning import CONTROL_BYTES

_NO_CONTROL = dict.fromkeys(CONTROL_BYTES)


def parse_json(data: bytes, repaired: dict[str, int]) -> Any:
    """Parse one JSON value. The last of several equal keys wins.

    Args:
        repaired: Counts repairs: removed raw control characters (`control_characters`), values with unescaped line ends or tabs
            in texts (`unescaped_white_space`), NaN and infinities that become null (`non_finite_numbers`). Escapes of half a
            surrogate pair stay for `text.cleaning.clean`.

    Raises:
        RecordError: `bad_encoding`, `bad_json` or `nesting_too_deep`; the reason gives the place, never the text.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise RecordError("bad_encoding", f"byte {error.start} of {len(data)} is not valid UTF-8") from None
    return _repaired_json(text, repaired)


def _repaired_json(text: str, repaired: dict[str, int]) -> Any:
    bare = text.translate(_NO_CONTROL)
    found: dict[str, int] = {}

    def number(literal: str) -> float | None:
        value = float(literal)
        if math.isfinite(value):
            return value
        count(found, "non_finite_numbers")
        return None

    def integer(literal: str) -> int | float | None:
        return int(literal) if len(literal) < 20 else number(literal)

    def parsed(*, strict: bool) -> Any:
        return json.loads(bare, parse_constant=number, parse_float=number, parse_int=integer, strict=strict)

    try:
        try:
            value = parsed(strict=True)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Invalid control character"):
                raise
            found.clear()
            value = parsed(strict=False)
            found["unescaped_white_space"] = 1
    except json.JSONDecodeError as error:
        raise RecordError("bad_json", f"not valid JSON at character {error.pos} of {len(bare)}") from None
    except RecursionError:
        raise RecordError("nesting_too_deep", "JSON nested too deep to be read") from None
    count(found, "control_characters", len(text) - len(bare))
    for kind, n in found.items():
        count(repaired, kind, n)
    return value
