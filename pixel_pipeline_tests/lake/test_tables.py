"""Delta tables on the lake: a write is visible whole or not at all, whoever else writes, whatever fails."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.errors import LakeWriteError
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table, TableMissingError

SCHEMA = pa.schema([pa.field("part", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False)])


def rows(part: str, *numbers: int) -> pa.Table:
    return pa.table({"part": [part] * len(numbers), "n": [*numbers]}, schema=SCHEMA)


def content(table: Table, *, version: int | None = None) -> list[tuple[str, int]]:
    read = table.dataset(version=version).to_table()
    return sorted(zip(read["part"].to_pylist(), read["n"].to_pylist(), strict=True))


def write_part(table: Table, part: str, *numbers: int) -> None:
    table.overwrite(rows(part, *numbers), partition_by="part", partition={"part": part})


def test_a_table_that_is_not_there(lake: Lake) -> None:
    table = Table(lake, "nothing")
    assert not table.exists()
    assert table.note() == {}
    for read in (table.open, table.version, table.dataset, table.row_count):
        with pytest.raises(TableMissingError, match=f"s3://{lake.data.name}/nothing"):
            read()


def test_overwrite_makes_versions_that_stay_readable(lake: Lake) -> None:
    table = Table(lake, "folder/table")
    assert table.overwrite(rows("a", 1, 2)) == 0
    assert table.overwrite(rows("b", 3)) == 1
    assert content(table) == [("b", 3)]
    assert content(table, version=0) == [("a", 1), ("a", 2)]
    assert table.row_count() == 1
    assert table.version() == 1


def test_overwrite_may_change_the_schema(lake: Lake) -> None:
    table = Table(lake, "table")
    table.overwrite(rows("a", 1))
    table.overwrite(pa.table({"other": ["x"]}))
    assert table.dataset().to_table().to_pydict() == {"other": ["x"]}


def test_overwriting_a_partition_leaves_the_others(lake: Lake) -> None:
    table = Table(lake, "table")
    for part, number in (("a", 1), ("b", 2), ("it's", 3)):
        write_part(table, part, number)
    write_part(table, "it's", 4, 5)
    assert content(table) == [("a", 1), ("b", 2), ("it's", 4), ("it's", 5)]
    write_part(table, "a")
    assert content(table) == [("b", 2), ("it's", 4), ("it's", 5)]


def test_rows_of_another_partition_are_refused(lake: Lake) -> None:
    """Otherwise they would be added to what is there already."""
    table = Table(lake, "table")
    write_part(table, "a", 1)
    write_part(table, "b", 2)
    with pytest.raises(PixelError, match=r"s3://.*/table"):
        table.overwrite(rows("b", 9), partition_by="part", partition={"part": "a"})
    assert content(table) == [("a", 1), ("b", 2)]


def test_concurrent_partition_writers_lose_nothing(lake: Lake) -> None:
    """From the very first commit on, when nobody has created the table yet."""
    parts = [f"p{number}" for number in range(6)]

    def write(part: str) -> None:
        for number in range(3):
            write_part(Table(lake, "table"), part, number)

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(write, parts))
    assert content(Table(lake, "table")) == [(part, 2) for part in parts]


def test_streams_are_written_whole(lake: Lake) -> None:
    batches = [rows("a", number).to_batches()[0] for number in range(20)]
    table = Table(lake, "table")
    table.overwrite(pa.RecordBatchReader.from_batches(SCHEMA, iter(batches)))
    assert content(table) == [("a", number) for number in range(20)]
    table.overwrite(pa.RecordBatchReader.from_batches(SCHEMA, iter([])))
    assert content(table) == []
    assert table.dataset().schema.names == SCHEMA.names


class PlantedError(Exception):
    """What the source of a stream may raise."""


@pytest.mark.parametrize(
    "error",
    [PlantedError("mine"), PixelError("object changed", hint="run again"), KeyboardInterrupt()],
    ids=repr,
)
@pytest.mark.parametrize("before", [0, 3])
def test_a_failing_source_leaves_the_old_version_and_its_own_error(
    lake: Lake, error: BaseException, before: int
) -> None:
    table = Table(lake, "table")
    table.overwrite(rows("a", 1, 2))

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(before):
            yield rows("b", number).to_batches()[0]
        raise error

    with pytest.raises(type(error)) as caught:
        table.overwrite(pa.RecordBatchReader.from_batches(SCHEMA, batches()))
    assert caught.value is error
    assert table.version() == 0
    assert content(table) == [("a", 1), ("a", 2)]


def test_a_failing_source_of_a_first_write_leaves_no_table(lake: Lake) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield rows("b", 1).to_batches()[0]
        raise PlantedError

    with pytest.raises(PlantedError):
        Table(lake, "table").overwrite(pa.RecordBatchReader.from_batches(SCHEMA, batches()))
    assert not Table(lake, "table").exists()


WRITER = """
import sys, time
import pyarrow as pa
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table
from pixel_pipeline.settings import get_settings

def batches():
    for number in range(100_000):
        if number == 1:
            print("streaming", flush=True)
        yield pa.RecordBatch.from_pydict({"part": ["new"] * 1000, "n": [number] * 1000}, schema=SCHEMA)

SCHEMA = pa.schema([pa.field("part", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False)])
Table(Lake.open(get_settings()), "table").overwrite(pa.RecordBatchReader.from_batches(SCHEMA, batches()))
"""


def test_a_killed_writer_leaves_the_old_version(lake: Lake) -> None:
    table = Table(lake, "table")
    table.overwrite(rows("old", 0))
    for attempt in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"streaming\n"
        # Another moment at each attempt, from the first batch to files on their way to the server.
        time.sleep(0.3 * attempt)
        writer.kill()
        writer.communicate()
        assert table.version() == attempt
        assert content(table) == [("old", attempt)]
        table.overwrite(rows("old", attempt + 1))


def test_the_note_is_the_newest_writers(lake: Lake) -> None:
    table = Table(lake, "table")
    table.overwrite(rows("a", 1), note={"pixel.version": "one", "pixel.other": "x"})
    assert table.note() == {"pixel.version": "one", "pixel.other": "x"}
    table.overwrite(rows("a", 2))
    assert table.note() == {}


def test_a_damaged_log_is_an_error_of_ours(lake: Lake) -> None:
    table = Table(lake, "table")
    table.overwrite(rows("a", 1))
    (commit,) = [item.key for item in lake.data.list("table/_delta_log") if item.key.endswith(".json")]
    lake.data.put(commit, b'{"planted words')
    with pytest.raises(LakeWriteError, match=f"s3://{lake.data.name}/table") as caught:
        table.row_count()
    assert "planted" not in str(caught.value)
