"""JSON as it comes: strict and fast first; then what JSON writers of this world get wrong, each repair
counted."""

import json
import math
from typing import Any

import orjson

from pixel_pipeline.conversations.model.records import RecordError
from pixel_pipeline.conversations.text.cleaning import CONTROL_BYTES


def parse_json(data: bytes, repaired: dict[str, int]) -> Any:
    """Parses one JSON value. Of a key given twice the last value counts.

    Repairs, counted: raw control characters are removed (`control_characters`), line ends and tabs within texts are taken as
    they are (`unescaped_white_space`: values with any); NaN and infinities become
    null (`non_finite_numbers`); escapes of half a surrogate pair are kept for `text.clean` to replace.

    Raises:
        RecordError: `bad_encoding` or `bad_json`; the reason gives the place, never the text.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise RecordError("bad_encoding", f"byte {error.start} of {len(data)} is not valid UTF-8") from None
    return parse_json_text(text, repaired)


def parse_json_text(text: str, repaired: dict[str, int]) -> Any:
    """As `parse_json`, for text; the slow path."""
    bare = text.translate(_NO_CONTROL)
    removed = len(text) - len(bare)
    found: dict[str, int] = {}

    def number(literal: str) -> float | None:
        value = float(literal)
        if math.isfinite(value):
            return value
        found["non_finite_numbers"] = found.get("non_finite_numbers", 0) + 1
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
    if removed:
        found["control_characters"] = removed
    for kind, n in found.items():
        repaired[kind] = repaired.get(kind, 0) + n
    return value


_NO_CONTROL = dict.fromkeys(CONTROL_BYTES)
