"""Finds the rows that earlier tasks made for the same pieces, in this family or in one that the objects belonged to before."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.dataset as ds

from pixel_pipeline.conversations.work.plan import Earlier, Task
from pixel_pipeline.conversations.work.results import TaskResult, kept_results, result_key
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.tables.table import Table

_WITHOUT_OPTIONS = 4
"""Length of a Place without its last field."""


def with_earlier(
    tasks: Sequence[Task],
    *,
    lake: Lake,
    family: str,
    kept: Mapping[str, TaskResult],
    again: Collection[str] | None = None,
) -> list[Task]:
    """Add to each task where the rows of its already converted pieces are.

    Args:
        kept: Results of the tasks' family, by task name.
        again: Keys of objects to convert again. If given, pieces of all other objects are reused even if another recipe or
            other options made their rows.
    """
    recipes = {task.recipe for task in tasks}
    depth = None
    if again is not None:
        recipes |= {result.recipe for result in kept.values()}
        depth = _WITHOUT_OPTIONS
    found = _places(lake.data, family, kept.values(), recipes=recipes, depth=depth)
    missing = {
        piece.source.key for task in tasks for piece in task.pieces if piece.place[:depth] not in found
    }
    for other in _families_with(lake, missing) - {family}:
        results = kept_results(lake.data, other).values()
        found = _places(lake.data, other, results, recipes=recipes, depth=depth) | found
    return [
        replace(
            task,
            earlier={
                number: found[piece.place[:depth]]
                for number, piece in enumerate(task.pieces)
                if piece.place[:depth] in found and piece.source.key not in (again or ())
            },
        )
        for task in tasks
    ]


def _places(
    bucket: Bucket,
    family: str,
    results: Iterable[TaskResult],
    *,
    recipes: set[str],
    depth: int | None,
) -> dict[tuple[Any, ...], Earlier]:
    """Rows of the results whose files still exist, by the first `depth` fields of their place. The newest result wins."""
    usable = [result for result in results if result.recipe in recipes and not result.unaligned]
    existing = {item.key for table in {result.table for result in usable} for item in bucket.list(table)}
    places: dict[tuple[Any, ...], Earlier] = {}
    for result in usable:
        files = tuple(f"{result.table}/{file.path}" for file in result.files)
        if existing.issuperset(files):
            for place, row in zip(result.places, result.ledger, strict=True):
                places[place[:depth]] = Earlier(result_key(family, result.name), files, orjson.dumps(row))
    return places


def _families_with(lake: Lake, sources: set[str]) -> set[str]:
    """Families under which the ledger lists any of these objects."""
    ledger = Table(lake, keys.LEDGER)
    if not sources or not ledger.exists():
        return set()
    rows = ledger.read(
        columns=["family"],
        filter=ds.field("source_key").isin(pa.array(sorted(sources), pa.string())),
    )
    return set(rows["family"].to_pylist())
