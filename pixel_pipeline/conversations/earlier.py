"""What was converted before: by an earlier task of the same family, or of another that the objects belonged to then."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import orjson
import pyarrow as pa
import pyarrow.dataset as ds

from pixel_pipeline.conversations.task_results import TaskResult, kept_results, result_key
from pixel_pipeline.conversations.tasks import Earlier, Place, Task
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.store import Bucket, Lake
from pixel_pipeline.lake.tables import Table


def with_earlier(
    tasks: Sequence[Task], *, lake: Lake, family: str, kept: Mapping[str, TaskResult]
) -> list[Task]:
    """Returns tasks that know which of their pieces were converted before by the same recipe.

    Args:
        kept: Results of the family the tasks are of.
    """
    recipes = {task.recipe for task in tasks}
    found = _places(lake.data, family, kept.values(), recipes=recipes)
    missing = {piece.source.key for task in tasks for piece in task.pieces if piece.place not in found}
    for other in _families_with(lake, missing) - {family}:
        results = kept_results(lake.data, other).values()
        found = _places(lake.data, other, results, recipes=recipes) | found
    return [
        replace(
            task,
            earlier={
                number: found[piece.place] for number, piece in enumerate(task.pieces) if piece.place in found
            },
        )
        for task in tasks
    ]


def _places(
    bucket: Bucket, family: str, results: Iterable[TaskResult], *, recipes: set[str]
) -> dict[Place, Earlier]:
    """What the results hold, where their files still lie."""
    usable = [result for result in results if result.recipe in recipes and not result.unaligned]
    lying = {item.key for table in {result.table for result in usable} for item in bucket.list(table)}
    places = {}
    for result in usable:
        files = tuple(f"{result.table}/{file.path}" for file in result.files)
        if lying.issuperset(files):
            for place, row in zip(result.places, result.ledger, strict=True):
                places[place] = Earlier(result_key(family, result.name), files, orjson.dumps(row))
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
