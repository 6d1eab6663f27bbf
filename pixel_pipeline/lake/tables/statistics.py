"""Statistics of a Parquet file for the Delta log, which readers use to skip files."""

from datetime import datetime
import re
from typing import Any

import orjson

STATISTICS_CHARACTERS = 64


def file_statistics(metadata: Any) -> str:
    """Return a file's row count, and minima, maxima and null counts of its plain columns, as JSON for the Delta log.

    Texts are omitted: only short strings without white space, such as names, keys and digests, have minima and maxima.
    """
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for index, column in enumerate(metadata.schema):
        if column.path != column.name:
            continue
        groups = [
            metadata.row_group(group).column(index).statistics for group in range(metadata.num_row_groups)
        ]
        if any(group is None or not group.has_null_count for group in groups):
            continue
        nulls[column.name] = sum(group.null_count for group in groups)
        bounds = [group for group in groups if group.has_min_max]
        # A row group of only nulls has no bounds, and needs none.
        if not bounds or any(not group.has_min_max and group.num_values for group in groups):
            continue
        low, high = min(group.min for group in bounds), max(group.max for group in bounds)
        if _is_plain(low) and _is_plain(high):
            smallest[column.name], largest[column.name] = _as_json(low), _as_json(high)
    content = {
        "numRecords": metadata.num_rows,
        "minValues": smallest,
        "maxValues": largest,
        "nullCount": nulls,
    }
    return orjson.dumps(content).decode()


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= STATISTICS_CHARACTERS and not re.search(r"\s", value)
    # A float's bounds do not cover NaN; Delta Lake has none for bool.
    return isinstance(value, int | datetime) and not isinstance(value, bool)


def _as_json(value: Any) -> Any:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if isinstance(value, datetime) else value
