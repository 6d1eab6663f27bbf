"""What was converted before: by an earlier task of the same family, or of another that the objects belonged to then."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pixel_pipeline.conversations.quarantine.reading import Wanted
from pixel_pipeline.conversations.work.plan import Earlier, Place, Task
from pixel_pipeline.conversations.work.results import (
    TaskResult,
    kept_results,
    quarantine_of,
    result_key,
    store_result,
)
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.tables.table import Table

# Of a place.
_WITHOUT_OPTIONS = 4


def with_earlier(
    tasks: Sequence[Task],
    *,
    lake: Lake,
    family: str,
    kept: Mapping[str, TaskResult],
    replay: Wanted | None = None,
) -> list[Task]:
    """Returns tasks that know which of their pieces were converted before by the same recipe.

    Args:
        kept: Results of the family the tasks are of.
        replay: Given where the recipe is of no account: what is not wanted stays as it is.
    """
    recipes = {task.recipe for task in tasks}
    if replay is not None:
        tasks = [replace(task, replay=replay) for task in tasks]
        recipes |= {result.recipe for result in kept.values()}
    depth = None if replay is None else _WITHOUT_OPTIONS
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
                if piece.place[:depth] in found
            },
        )
        for task in tasks
    ]


def adopted(
    tasks: Sequence[Task], *, bucket: Bucket, family: str, kept: Mapping[str, TaskResult], but: Wanted
) -> dict[str, TaskResult]:
    """Makes results of another recipe those of tasks of the same pieces, where nothing of them is to be converted again.

    Args:
        kept: Results of the family; their files lie in the table.
        but: What is to be converted again, of the quarantine.
    """
    by_places = {_bytes_meant(result.places): result for result in kept.values() if not result.unaligned}
    found = {}
    for task in tasks:
        places = [piece.place for piece in task.pieces]
        old = by_places.get(_bytes_meant(places))
        if old is None or old.table != task.table:
            continue
        refused = quarantine_of(bucket, result_key(family, old.name)) if old.quarantined else None
        if refused is not None and pc.any(but.mask(refused)).as_py():
            continue
        found[task.name] = replace(old, name=task.name, recipe=task.recipe, places=places, fresh=False)
        store_result(bucket, family, found[task.name], [] if refused is None else refused.to_batches())
    return found


def _bytes_meant(places: Iterable[Place]) -> tuple[tuple[Any, ...], ...]:
    return tuple(place[:_WITHOUT_OPTIONS] for place in places)


def _places(
    bucket: Bucket,
    family: str,
    results: Iterable[TaskResult],
    *,
    recipes: set[str],
    depth: int | None,
) -> dict[tuple[Any, ...], Earlier]:
    """What the results hold, where their files still lie; of several that hold the same the newest. By so much of a place."""
    usable = [result for result in results if result.recipe in recipes and not result.unaligned]
    lying = {item.key for table in {result.table for result in usable} for item in bucket.list(table)}
    places: dict[tuple[Any, ...], Earlier] = {}
    for result in usable:
        files = tuple(f"{result.table}/{file.path}" for file in result.files)
        if lying.issuperset(files):
            for place, row in zip(result.places, result.ledger, strict=True):
                places[place[:depth]] = Earlier(result_key(family, result.name), files, orjson.dumps(row))
    return places


def _families_with(lake: Lake, sources: set[str]) -> set[str]:
    """Families that the ledger has some of these objects under."""
    ledger = Table(lake, keys.LEDGER)
    if not sources or not ledger.exists():
        return set()
    rows = ledger.read(
        columns=["family"],
        filter=ds.field("source_key").isin(pa.array(sorted(sources), pa.string())),
    )
    return set(rows["family"].to_pylist())
