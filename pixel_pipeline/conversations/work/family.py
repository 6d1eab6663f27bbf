"""The tasks of one family: finds those that are done, runs the others, and commits their files to the family's table."""

from collections import Counter
from collections.abc import Collection, Sequence
import io
from typing import cast

import pyarrow as pa

from pixel_pipeline.compute.executor import Executor
from pixel_pipeline.conversations.containers.opening import open_container
from pixel_pipeline.conversations.model.records import ObjectError
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.conversations.work.cutting import cut
from pixel_pipeline.conversations.work.plan import Piece, Task, plan
from pixel_pipeline.conversations.work.results import PART, TaskResult, delete_results, kept_results
from pixel_pipeline.conversations.work.reuse import with_earlier
from pixel_pipeline.conversations.work.run import run_task
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table

TABLE_SCHEMA = CONVERSATION_SCHEMA.append(pa.field(PART, pa.string(), nullable=False))
"""Columns of a canonical table: those of a conversation, and the task that made the row."""


def remove_files(lake: Lake, results: Collection[TaskResult], *, except_from: str | None = None) -> None:
    """Remove the files of these results from the tables they were made for, except from one.

    A family's table may have been taken over by another family, whose files stay.
    """
    for key in {result.table for result in results} - {except_from}:
        table = Table(lake, key)
        gone = table.parts() & {file.part for result in results for file in result.files}
        if gone:
            table.exchange([], gone=gone, schema=TABLE_SCHEMA, partition_by=PART)


class FamilyWork:
    """The tasks of one family.

    Args:
        recipe: Version of the conversion recipe.
        again: As in `convert_family`.

    Attributes:
        converted: Keys of the objects that were read.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        table: Table,
        family: str,
        recipe: str,
        executor: Executor,
        again: Collection[str] | None,
    ) -> None:
        self._lake = lake
        self._table = table
        self._family = family
        self._recipe = recipe
        self._executor = executor
        self._again = again
        self._parts = table.parts()
        self._kept = kept_results(lake.data, family)
        self._whole: set[str] = set()
        self._planned: set[str] = set()
        self.converted: set[str] = set()

    def results(self, objects: Sequence[SourceObject]) -> list[TaskResult]:
        """Return the results of all tasks, running those without a stored result."""
        while True:
            tasks = plan(objects, table=self._table.key, recipe=self._recipe, cut=self._cut)
            self._planned |= {task.name for task in tasks}
            results = self._done(tasks)
            unaligned = {place[0] for result in results if result.unaligned for place in result.places}
            if not unaligned:
                return results
            self._whole |= unaligned

    def commit(self, results: list[TaskResult], *, note: dict[str, str]) -> None:
        """Replace the table's files by those of the results, in one commit."""
        files = [file for result in results for file in result.files]
        new = [file.action() for file in files if file.part not in self._parts]
        gone = self._parts - {file.part for file in files}
        # Commit the note even if no file changes, for example if only a picture was added: it records the input of this version.
        if new or gone or self._table.note().get("pixel.version") != note["pixel.version"]:
            self._table.exchange(new, gone=gone, schema=TABLE_SCHEMA, partition_by=PART, note=note)
        remove_files(self._lake, self._kept.values(), except_from=self._table.key)

    def delete_stale_results(self) -> None:
        """Delete results that no task uses. Fresh ones stay: another family may take their objects over."""
        fresh = {result.name for result in self._kept.values() if result.fresh}
        delete_results(self._lake.data, self._family, keep=fresh | self._planned)

    def _cut(self, source: SourceObject) -> list[Piece]:
        if source.key in self._whole:
            return [Piece.whole(source)]
        with self._lake.data.open(source.key, etag=source.etag) as stream:
            try:
                opening = open_container(source, stream, repaired=Counter()).opening
            except ObjectError:
                # The conversion reports it.
                opening = None
            # Bypass the buffer, which would fetch megabytes around each cut.
            return cut(source, cast(io.RawIOBase, cast(io.BufferedReader, stream).raw), opening)

    def _done(self, tasks: list[Task]) -> list[TaskResult]:
        files = {item.key for item in self._lake.data.list(self._table.key)}

        def is_usable(result: TaskResult) -> bool:
            # A vacuum may remove old files that no table refers to; their task runs again and writes the same bytes.
            return all(
                f"{self._table.key}/{file.path}" in files and (file.part in self._parts or result.fresh)
                for file in result.files
            )

        results = {
            task.name: kept
            for task in tasks
            if (kept := self._kept.get(task.name)) is not None and is_usable(kept)
        }
        missing = with_earlier(
            [task for task in tasks if task.name not in results],
            lake=self._lake,
            family=self._family,
            kept=self._kept,
            again=self._again,
        )
        for task, result in zip(missing, self._executor.map(run_task, missing), strict=True):
            results[task.name] = result
            self.converted |= {
                piece.source.key for number, piece in enumerate(task.pieces) if number not in task.earlier
            }
        return [results[task.name] for task in tasks]
