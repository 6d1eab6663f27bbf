"""The tasks of one family: which are done, the doing of the others, and the commit of what all came to."""

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
from pixel_pipeline.conversations.quarantine.reading import Wanted
from pixel_pipeline.conversations.work.cutting import cut
from pixel_pipeline.conversations.work.plan import Piece, Task, plan
from pixel_pipeline.conversations.work.results import PART, TaskResult, forget_results, kept_results
from pixel_pipeline.conversations.work.reuse import adopted, with_earlier
from pixel_pipeline.conversations.work.run import run_task
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.table import Table

TABLE_SCHEMA = CONVERSATION_SCHEMA.append(pa.field(PART, pa.string(), nullable=False))
"""Columns of a canonical table: those of a conversation, and the task that made the row."""


def leave_tables(lake: Lake, results: Collection[TaskResult], *, but: str | None = None) -> None:
    """Take what tasks made out of the tables that it was made for, but for one: the family has gone from there.

    Whatever else lies in such a table is another family's, which came after.
    """
    for key in {result.table for result in results} - {but}:
        table = Table(lake, key)
        ours = table.parts() & {file.part for result in results for file in result.files}
        if ours:
            table.exchange([], gone=ours, schema=TABLE_SCHEMA, partition_by=PART)


class FamilyWork:
    """The tasks of one family: which are done, the doing of the others, and the commit of what all came to.

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
        replay: Wanted | None,
    ) -> None:
        self._lake = lake
        self._table = table
        self._family = family
        self._recipe = recipe
        self._executor = executor
        self._replay = replay
        self._parts = table.parts()
        self._kept = kept_results(lake.data, family)
        self._whole: set[str] = set()
        self._seen: set[str] = set()
        self.converted: set[str] = set()

    def results(self, objects: Sequence[SourceObject]) -> list[TaskResult]:
        """The results of all tasks: those that lie there as they are, the others are run."""
        while True:
            tasks = plan(objects, table=self._table.key, recipe=self._recipe, cut=self._cut)
            self._seen |= {task.name for task in tasks}
            results = self._done(tasks)
            unaligned = {place[0] for result in results if result.unaligned for place in result.places}
            if not unaligned:
                return results
            self._whole |= unaligned

    def commit(self, results: list[TaskResult], *, note: dict[str, str]) -> None:
        """Make the files of the results those of the table."""
        files = [file for result in results for file in result.files]
        new = [file.action() for file in files if file.part not in self._parts]
        gone = self._parts - {file.part for file in files}
        # Also where nothing changes, as when a picture came: the note tells what was looked at.
        if new or gone or self._table.note().get("pixel.version") != note["pixel.version"]:
            self._table.exchange(new, gone=gone, schema=TABLE_SCHEMA, partition_by=PART, note=note)
        leave_tables(self._lake, self._kept.values(), but=self._table.key)

    def forget(self) -> None:
        """Delete results that no task needs. For a while they stay: another family may take their objects over."""
        forget_results(
            self._lake.data,
            self._family,
            but={result.name for result in self._kept.values() if result.fresh} | self._seen,
        )

    def _cut(self, source: SourceObject) -> list[Piece]:
        if source.key in self._whole:
            return [Piece.whole(source)]
        with self._lake.data.open(source.key, etag=source.etag) as stream:
            try:
                opening = open_container(source, stream, repaired=Counter()).opening
            except ObjectError:
                # The conversion tells.
                opening = None
            # Not through the buffer, which fetches megabytes around each place.
            return cut(source, cast(io.RawIOBase, cast(io.BufferedReader, stream).raw), opening)

    def _done(self, tasks: list[Task]) -> list[TaskResult]:
        files = {item.key for item in self._lake.data.list(self._table.key)}

        def lies(result: TaskResult) -> bool:
            # What is in no table may be vacuumed at any time once it is old; it is made again, the same to the byte.
            return all(
                f"{self._table.key}/{file.path}" in files and (file.part in self._parts or result.fresh)
                for file in result.files
            )

        kept = {name: result for name, result in self._kept.items() if lies(result)}
        results = {task.name: kept[task.name] for task in tasks if task.name in kept}
        if self._replay is not None:
            missing = [task for task in tasks if task.name not in results]
            results |= adopted(
                missing, bucket=self._lake.data, family=self._family, kept=kept, but=self._replay
            )
        missing = [task for task in tasks if task.name not in results]
        missing = with_earlier(
            missing, lake=self._lake, family=self._family, kept=self._kept, replay=self._replay
        )
        for task, result in zip(missing, self._executor.map(run_task, missing), strict=True):
            results[task.name] = result
            self.converted |= {
                piece.source.key for number, piece in enumerate(task.pieces) if number not in task.earlier
            }
        return [results[task.name] for task in tasks]
