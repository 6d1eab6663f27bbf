"""Delta tables on the lake: a write is visible completely or not at all, whatever fails or writes concurrently.

Over 300 lines: every operation of a table in one place.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import LakeWriteError, ObjectCorruptError
from pixel_pipeline.lake.tables import files as table_files
from pixel_pipeline.lake.tables.files import PartitionMismatchError
from pixel_pipeline.lake.tables.log import files_of
from pixel_pipeline.lake.tables.schema import SchemaMismatchError
from pixel_pipeline.lake.tables.table import Table, TableMissingError, VersionGoneError

SCHEMA = pa.schema([pa.field("part", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False)])


def rows(part: str, *numbers: int) -> pa.Table:
    return pa.table({"part": [part] * len(numbers), "n": [*numbers]}, schema=SCHEMA)


def content(table: Table, *, version: int | None = None) -> list[tuple[str, int]]:
    read = table.dataset(version=version).to_table()
    return sorted(zip(read["part"].to_pylist(), read["n"].to_pylist(), strict=True))


def write_part(table: Table, part: str, *numbers: int) -> None:
    table.overwrite(rows(part, *numbers), partition_by="part", partition={"part": part})


def test_a_missing_table(lake: Lake) -> None:
    table = Table(lake, "nothing")
    assert not table.exists()
    assert table.note() == {}
    for read in (table.open, table.version, table.dataset, table.read, table.row_count):
        with pytest.raises(TableMissingError, match=f"s3://{lake.data.name}/nothing"):
            read()


def test_overwrite_makes_versions_that_stay_readable(lake: Lake) -> None:
    table = Table(lake, "folder/table")
    assert table.overwrite(rows("a", 1, 2)).version == 0
    assert table.overwrite(rows("b", 3)).version == 1
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
    """Otherwise they would be added to the existing rows."""
    table = Table(lake, "table")
    write_part(table, "a", 1)
    write_part(table, "b", 2)
    with pytest.raises(PartitionMismatchError, match=r"Expected rows of the partitions .a.; got part .b."):
        table.overwrite(rows("b", 9), partition_by="part", partition={"part": "a"})
    assert content(table) == [("a", 1), ("b", 2)]


def test_concurrent_partition_writers_lose_nothing(lake: Lake) -> None:
    """Including the first commit, which creates the table."""
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
    """An error of a stream's source."""


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


def test_the_note_is_that_of_the_newest_writer(lake: Lake) -> None:
    table = Table(lake, "table")
    table.overwrite(rows("a", 1), note={"pixel.version": "one", "pixel.other": "x"})
    assert table.note() == {"pixel.version": "one", "pixel.other": "x"}
    table.open().alter.set_table_properties({"delta.checkpointInterval": "20"})
    assert table.note() == {"pixel.version": "one", "pixel.other": "x"}
    table.overwrite(rows("a", 2))
    assert table.note() == {}


def test_a_damaged_log_raises_a_pixel_error(lake: Lake) -> None:
    table = Table(lake, "table")
    table.overwrite(rows("a", 1))
    (commit,) = [item.key for item in lake.data.list("table/_delta_log") if item.key.endswith(".json")]
    lake.data.put(commit, b'{"planted words')
    with pytest.raises(LakeWriteError, match=f"s3://{lake.data.name}/table") as caught:
        table.row_count()
    assert "planted" not in str(caught.value)


def test_append_adds_rows_and_columns(lake: Lake) -> None:
    log = Table(lake, "log")
    assert log.append(pa.table({"n": [1]}), note={"pixel.version": "one"}).version == 0
    assert log.note() == {"pixel.version": "one"}
    log.append(pa.table({"n": [2]}))
    wider = log.append(pa.table({"new": ["x"], "n": [3]}))
    # The column was added by a separate commit.
    assert (wider.version, wider.rows, wider.files) == (3, 1, 1)
    assert log.read().sort_by("n").to_pydict() == {"n": [1, 2, 3], "new": [None, None, "x"]}
    log.append(pa.table({"n": pa.array([], pa.int64())}))
    assert log.row_count() == 3
    with pytest.raises(SchemaMismatchError, match=r"Column n is int64 in this table; string was offered\."):
        log.append(pa.table({"n": ["4"]}))


def test_a_table_keeps_its_layout(lake: Lake) -> None:
    table = Table(lake, "table")
    write_part(table, "a", 1)
    table.append(pa.concat_tables([rows("b", 2), rows("a", 3)]))
    write_part(table, "a", 4)
    assert content(table) == [("a", 4), ("b", 2)]
    table.overwrite(pa.concat_tables([rows("b", 2), rows("a", 3)]))
    write_part(table, "a", 5)
    assert content(table) == [("a", 5), ("b", 2)]
    with pytest.raises(SchemaMismatchError, match=r"partitioned by part, not by n\."):
        table.overwrite(pa.table({"n": ["x"]}), partition_by="n")
    with pytest.raises(SchemaMismatchError, match=r"n, which is not a column of strings"):
        Table(lake, "other").overwrite(rows("a", 5), partition_by="n")


def test_added_since_reads_only_later_files(lake: Lake) -> None:
    log = Table(lake, "log")
    for number in range(12):
        log.append(rows("a", number, number + 100))
    assert log.added_since(11).num_rows == 0
    before = {path for path, _ in files_of(log.open(version=9))}
    lake.data.delete(f"log/{path}" for path in before)
    assert log.added_since(9, columns=["n"]).to_pydict() == {"n": [10, 110, 11, 111]}
    with pytest.raises(VersionGoneError, match=r"since version 8 are already deleted"):
        log.added_since(8)
    lake.data.delete([f"log/_delta_log/{3:020}.json"])
    with pytest.raises(VersionGoneError, match=r"Read the whole table"):
        log.added_since(2)


def test_added_since_knows_partitions_and_new_columns(lake: Lake) -> None:
    table = Table(lake, "table")
    write_part(table, "a", 1)
    write_part(table, "it's %20 ü", 2)
    table.append(pa.table({"part": ["a"], "n": [3], "new": [True]}))
    assert table.added_since(0).to_pylist() == [
        {"part": "it's %20 ü", "n": 2, "new": None},
        {"part": "a", "n": 3, "new": True},
    ]


def test_several_partitions_are_replaced_in_one_commit(lake: Lake) -> None:
    table = Table(lake, "table")
    for part, number in (("a", 1), ("b", 2), ("c", 3), ("d", 4)):
        write_part(table, part, number)
    mixed = pa.concat_tables([rows("a", 10), rows("b", 20), rows("a", 11)])
    table.overwrite(mixed, partition={"part": ["a", "b", "c"]})
    assert content(table) == [("a", 10), ("a", 11), ("b", 20), ("d", 4)]
    assert table.version() == 4


def test_a_partition_may_add_columns_and_lack_others(lake: Lake) -> None:
    """Old rows read null, columns may come in any order, and narrower numbers are widened."""
    table = Table(lake, "table")
    old = pa.schema([*SCHEMA, pa.field("text", pa.string())])
    part = {"part": "a"}
    table.overwrite(
        pa.table({"part": ["a"], "n": [1], "text": ["x"]}, schema=old), partition_by="part", partition=part
    )
    narrow = pa.table({"new": [1.5], "n": pa.array([2], pa.int32()), "part": ["b"]})
    table.overwrite(narrow, partition={"part": "b"})
    assert table.read().sort_by("n").to_pylist() == [
        {"part": "a", "n": 1, "text": "x", "new": None},
        {"part": "b", "n": 2, "text": None, "new": 1.5},
    ]
    assert table.read().schema == pa.schema([*old, pa.field("new", pa.float64())])
    assert table.read(version=0).schema == old


@pytest.mark.parametrize(
    ("offered", "message"),
    [
        (pa.table({"part": ["b"], "n": ["2"]}), "Column n is int64 in this table; string was offered"),
        (pa.table({"part": ["b"]}), "Column n \\(int64\\) is missing, and is never null"),
        (pa.table({"part": ["b"], "n": pa.array([None], pa.int64())}), "Column n has nulls"),
        (
            pa.table({"part": ["b"], "n": pa.array([2], pa.uint64())}),
            "Column n has type uint64, which a Delta table cannot store",
        ),
        (
            pa.table(
                [["b"], [2], [3]],
                schema=pa.schema([*SCHEMA, pa.field("new", pa.int64(), nullable=False)]),
            ),
            "New column new \\(int64\\) is not nullable",
        ),
    ],
    ids=["type", "missing", "null", "no Delta type", "new not null"],
)
def test_columns_that_do_not_fit_are_refused_by_name(lake: Lake, offered: pa.Table, message: str) -> None:
    table = Table(lake, "table")
    write_part(table, "a", 1)
    with pytest.raises(SchemaMismatchError, match=message):
        table.overwrite(offered, partition={"part": "b"})
    assert content(table) == [("a", 1)]


def test_forbidden_nested_nulls_are_refused(lake: Lake) -> None:
    table = Table(lake, "table")
    field = pa.field("element", pa.string(), nullable=False)
    table.overwrite(pa.table({"words": pa.array([["a"]], pa.list_(field))}))
    with pytest.raises(SchemaMismatchError, match="contains a null where this table"):
        table.append(pa.table({"words": [["a", None]]}))
    assert table.append(pa.table({"words": [["b"], None]})).rows == 2


def test_a_schema_evolves_or_is_replaced(lake: Lake) -> None:
    table = Table(lake, "table")
    table.overwrite(pa.table({"a": [1]}))
    with pytest.raises(SchemaMismatchError, match="Column a is int64 in this table; string was offered"):
        table.overwrite(pa.table({"a": ["x"]}), schema="evolve")
    table.overwrite(pa.table({"b": ["x"]}), schema="evolve")
    assert table.read().to_pydict() == {"a": [None], "b": ["x"]}
    table.overwrite(pa.table({"a": ["x"]}), schema="replace")
    assert table.read().to_pydict() == {"a": ["x"]}
    with pytest.raises(SchemaMismatchError, match="cannot be replaced"):
        table.overwrite(rows("a", 1), partition={"part": "a"}, schema="replace")


def test_only_requested_columns_are_read(lake: Lake) -> None:
    """The bytes of the other column are damaged, which is only noticed when they are read."""
    table = Table(lake, "table")
    table.overwrite(pa.table({"n": [*range(1000)], "text": [f"{n} words" * 20 for n in range(1000)]}))
    _damage(lake, table, column=1)
    assert table.read(columns=["n"])["n"].to_pylist() == [*range(1000)]
    with pytest.raises(ObjectCorruptError, match=rf"{table.uri} no longer holds the bytes"):
        table.read()


def test_files_that_the_filter_excludes_are_not_read(lake: Lake) -> None:
    table = Table(lake, "table")
    for part, number in (("a", 1), ("b", 2)):
        write_part(table, part, number)
    log = Table(lake, "log")
    for number in range(3):
        log.append(rows("a", number))
    gone = [item.key for item in lake.data.list("table/part=b")]
    gone += [f"log/{path}" for path, _ in files_of(log.open(version=0))]
    lake.data.delete(gone)
    assert table.read(filter=ds.field("part") == "a")["n"].to_pylist() == [1]
    # By the minima and maxima of each file in the log.
    assert sorted(log.read(filter=ds.field("n") > 0)["n"].to_pylist()) == [1, 2]
    with pytest.raises(VersionGoneError, match=rf"{log.uri} that was opened is gone"):
        log.read()


def test_rows_keep_the_order_in_which_they_were_written(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "ROW_GROUP_BYTES", 20_000)
    monkeypatch.setattr(table_files, "FILE_BYTES", 4_000)
    table = Table(lake, "table")
    numbers = [n * 7919 % 20_000 for n in range(20_000)]
    assert table.overwrite(pa.table({"n": numbers})).files > 5
    assert table.read()["n"].to_pylist() == numbers
    parts = Table(lake, "parts")
    for part in "bac":
        write_part(parts, part, 2, 1)
    assert parts.read()["part"].to_pylist() == [*"aabbcc"]
    assert parts.read()["n"].to_pylist() == [2, 1] * 3


def test_the_error_of_a_missing_version_lists_the_readable_ones(lake: Lake) -> None:
    table = Table(lake, "table")
    for number in range(4):
        table.overwrite(rows("a", number))
    for version in (4, -1, 99):
        with pytest.raises(VersionGoneError, match=r"Versions 0 to 3 can be read"):
            table.dataset(version=version)
    lake.data.delete(f"table/{path}" for path, _ in files_of(table.open(version=1)))
    lake.data.delete(f"table/{path}" for path, _ in files_of(table.open(version=0)))
    with pytest.raises(VersionGoneError, match=r"There is no version 1 of s3://.*/table\.\nVersions 2 to 3"):
        table.dataset(version=1)
    assert content(table, version=2) == [("a", 2)]


def _damage(lake: Lake, table: Table, *, column: int) -> None:
    """Flip a byte in the middle of a column of a table's only file."""
    ((path, _),) = files_of(table.open())
    data = bytearray(lake.data.get(f"{table.key}/{path}"))
    chunk = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(column)
    data[chunk.dictionary_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    lake.data.put(f"{table.key}/{path}", bytes(data))
