"""Files of a table: equal rows are equal bytes, in bounded files, with statistics for the log."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from deltalake.transaction import AddAction
from hypothesis import given
from hypothesis import strategies as st
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.tables import files as table_files
from pixel_pipeline.lake.tables.files import Layout, PartitionMismatchError, write_files
from pixel_pipeline_tests.examples import examples

SCHEMA = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("n", pa.int64()),
        pa.field("words", pa.list_(pa.field("element", pa.struct([pa.field("word", pa.string())])))),
    ]
)


def rows(count: int) -> pa.Table:
    return pa.table(
        {
            "part": [("a", "b", "c")[n % 3] for n in range(count)],
            "n": [None if n % 7 == 0 else n for n in range(count)],
            "words": [
                None if n % 5 == 0 else [{"word": f"word {i}" * (n % 4)} for i in range(n % 3)]
                for n in range(count)
            ],
        },
        schema=SCHEMA,
    )


MANY = rows(6000)


class Memory(Bucket):
    """A bucket in memory, which only accepts puts."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: Any, *, create_only: bool = False) -> str:
        self.objects[key] = data
        return ""


def written(
    table: pa.Table, *, cuts: list[int] | None = None, layout: Layout | None = None
) -> tuple[list[AddAction], dict[str, bytes]]:
    bounds = [0, *sorted(cuts or []), table.num_rows]
    batches = [b for start, end in pairwise(bounds) for b in table.slice(start, end - start).to_batches()]
    bucket = Memory()
    files = write_files(batches, schema=table.schema, bucket=bucket, key="key", suffix="x", layout=layout)
    return files, bucket.objects


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a few thousand rows exceed."""
    monkeypatch.setattr(table_files, "ROW_GROUP_BYTES", 20_000)
    monkeypatch.setattr(table_files, "FILE_BYTES", 1_000)
    monkeypatch.setattr(table_files, "PORTION_ROWS", 100)


@pytest.mark.parametrize("layout", [None, Layout("part")], ids=["whole", "by part"])
@examples(5)
@given(cuts=st.lists(st.integers(0, 6000), max_size=8))
def test_equal_rows_are_equal_bytes_however_they_are_batched(
    small: None, layout: Layout | None, cuts: list[int]
) -> None:
    files, objects = written(MANY, layout=layout)
    assert len(files) > 5
    assert written(MANY, cuts=cuts, layout=layout)[1] == objects


def test_pages_do_not_end_where_batches_do() -> None:
    table = pa.table({"text": [f"{n} invented words " * 60 for n in range(4000)]})
    files, objects = written(table)
    assert len(files) == 1
    assert written(table, cuts=[1, 500, 1500, 1501, 3333])[1] == objects


def test_masks_make_no_difference(small: None) -> None:
    """Arrays without nulls may or may not have a null mask."""
    plain = pa.array([*range(1000)])
    masked = pa.concat_arrays([plain, pa.array([None], pa.int64())])[:1000]
    schema = pa.schema([("n", pa.int64())])
    assert masked.buffers()[0] is not None
    assert written(pa.table([plain], schema=schema))[1] == written(pa.table([masked], schema=schema))[1]


def test_files_are_bounded_and_have_statistics(small: None) -> None:
    files, objects = written(MANY, layout=Layout("part"))
    assert [f"key/{file.path}" for file in files] == sorted(objects)
    assert max(file.size for file in files) < 20_000
    for file in files:
        data = objects[f"key/{file.path}"]
        part = file.partition_values["part"]
        assert file.size == len(data)
        assert file.path.startswith(f"part={part}/part-0")
        read = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        assert read.column_names == ["n", "words"]
        statistics = orjson.loads(file.stats)
        numbers = [n for n in read["n"].to_pylist() if n is not None]
        assert statistics == {
            "numRecords": read.num_rows,
            "minValues": {"n": min(numbers)},
            "maxValues": {"n": max(numbers)},
            "nullCount": {"n": read.num_rows - len(numbers)},
        }
        wanted = MANY.filter(pa.compute.equal(MANY["part"], part)).drop_columns(["part"])
        assert numbers[0] in wanted["n"].to_pylist()
    assert sum(orjson.loads(file.stats)["numRecords"] for file in files) == 6000


def test_statistics_contain_names_and_numbers_but_no_text(small: None) -> None:
    table = pa.table(
        {
            "key": ["raw/b.json", "raw/a.json"],
            "spoken": ["invented words", "other"],
            "long": ["x" * 65, "y"],
            "at": pa.array([datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC")),
            "flag": [True, False],
            "ratio": [0.5, float("nan")],
            "nothing": pa.array([None, None], pa.int64()),
        }
    )
    statistics = orjson.loads(written(table)[0][0].stats)
    assert statistics["minValues"] == {"key": "raw/a.json", "at": "2026-01-02T03:04:05.000678Z"}
    assert statistics["maxValues"] == {"key": "raw/b.json", "at": "2026-01-02T03:04:05.000678Z"}
    assert statistics["nullCount"]["nothing"] == 2


def test_open_files_are_bounded_together(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "FILE_BYTES", 10**9)
    assert len(written(MANY, layout=Layout("part"))[0]) == 3
    monkeypatch.setattr(table_files, "OPEN_BYTES", 20_000)
    files, objects = written(MANY, layout=Layout("part"))
    assert len(files) > 5
    assert sum(orjson.loads(file.stats)["numRecords"] for file in files) == MANY.num_rows
    assert written(MANY, cuts=[*range(0, 6000, 333)], layout=Layout("part"))[1] == objects


def test_rows_outside_of_the_partitions_are_refused() -> None:
    with pytest.raises(
        PartitionMismatchError, match=r"Expected rows of the partitions 'a', 'b'; got part 'c'\."
    ):
        written(rows(10), layout=Layout("part", frozenset("ab")))
    null_partition = pa.table({"part": pa.array([None], pa.string()), "n": [1]})
    with pytest.raises(PartitionMismatchError, match="column part is null"):
        written(null_partition, layout=Layout("part"))


def test_a_failed_upload_fails_the_write(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class UploadError(Exception):
        pass

    def put(self: Memory, key: str, data: Any, *, create_only: bool = False) -> str:
        raise UploadError

    monkeypatch.setattr(Memory, "put", put)
    for table in (rows(10), MANY):
        with pytest.raises(UploadError):
            written(table)
