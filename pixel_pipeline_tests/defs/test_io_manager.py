"""S3ParquetIOManager through real Dagster runs on a real bucket."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pixel_pipeline.defs.io_manager import S3ParquetIOManager
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.tables.log import files_of
from pixel_pipeline.lake.tables.table import Table

NUMBERS = pa.table({"part": ["a", "a", "b"], "n": [1, 2, 3], "text": ["x", "y", "z"]})
PARTS = dg.StaticPartitionsDefinition(["a", "b"])


@pytest.fixture
def resources(lake: Lake) -> dict[str, Any]:
    resource = LakeResource()
    return {"lake": resource, "io_manager": S3ParquetIOManager(lake=resource)}


def _metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    assert event.asset_key == dg.AssetKey(asset)
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_table_goes_in_and_a_lazy_dataset_comes_out(resources: dict[str, Any], lake: Lake) -> None:
    seen: list[pa.Table] = []

    @dg.asset(metadata={"table": "t/numbers"})
    def numbers() -> pa.Table:
        return NUMBERS

    @dg.asset
    def reader(numbers: ds.Dataset) -> None:
        assert isinstance(numbers, ds.Dataset)
        seen.append(numbers.to_table(columns=["n"], filter=ds.field("part") == "a"))

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([numbers], resources=resources, instance=instance)
        metadata = _metadata(result, "numbers")
        assert dg.materialize(
            [numbers, reader], selection=[reader], resources=resources, instance=instance
        ).success
    assert metadata["dagster/row_count"] == 3
    assert metadata["uri"] == metadata["dagster/uri"] == lake.data.uri("t/numbers")
    assert metadata["dagster/table_name"] == f"{lake.data.name}.t.numbers"
    assert (metadata["table version"], metadata["files"]) == (0, 1)
    ((_, size),) = files_of(Table(lake, "t/numbers").open())
    assert metadata["size (MB)"] == pytest.approx(size / 1e6, rel=0.01)
    assert [column.name for column in metadata["dagster/column_schema"].columns] == ["part", "n", "text"]
    assert seen == [pa.table({"n": [1, 2]})]


def test_an_input_names_the_columns_it_needs(resources: dict[str, Any]) -> None:
    seen: list[pa.Table] = []

    @dg.asset(metadata={"table": "t/numbers"})
    def numbers() -> pa.Table:
        return NUMBERS

    @dg.asset(ins={"numbers": dg.AssetIn(metadata={"columns": ["n"]})})
    def reader(numbers: pa.Table) -> None:
        seen.append(numbers)

    assert dg.materialize([numbers, reader], resources=resources).success
    assert seen[0].column_names == ["n"]


def test_a_stream_of_batches_is_stored(resources: dict[str, Any], lake: Lake) -> None:
    @dg.asset(metadata={"table": "t/stream"})
    def stream() -> pa.RecordBatchReader:
        batches = (pa.record_batch({"n": [i]}) for i in range(500))
        return pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches)

    assert dg.materialize([stream], resources=resources).success
    assert sorted(Table(lake, "t/stream").dataset().to_table()["n"].to_pylist()) == list(range(500))


def test_a_stream_that_breaks_leaves_the_table_as_it_was(resources: dict[str, Any], lake: Lake) -> None:
    broken = [False]

    @dg.asset(metadata={"table": "t/stream"})
    def stream() -> pa.RecordBatchReader:
        def batches() -> Iterator[pa.RecordBatch]:
            for i in range(50):
                if broken[0] and i == 40:
                    raise ValueError("the source broke")
                yield pa.record_batch({"n": [i]})

        return pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches())

    assert dg.materialize([stream], resources=resources).success
    broken[0] = True
    assert not dg.materialize([stream], resources=resources, raise_on_error=False).success
    table = Table(lake, "t/stream")
    assert table.version() == 0
    assert table.row_count() == 50


def test_partitions_of_a_shared_table_replace_only_their_own_rows(
    resources: dict[str, Any], lake: Lake
) -> None:
    values = {"a": 1, "b": 2}

    @dg.asset(metadata={"table": "t/shared", "partition_by": "part"}, partitions_def=PARTS)
    def shared(context: dg.AssetExecutionContext) -> pa.Table:
        part = context.partition_key
        return pa.table({"part": [part], "n": [values[part]]})

    @dg.asset(partitions_def=PARTS)
    def one(context: dg.AssetExecutionContext, shared: ds.Dataset) -> None:
        assert set(shared.to_table()["part"].to_pylist()) == {context.partition_key}

    with dg.DagsterInstance.ephemeral() as instance:
        for part in ("a", "b"):
            dg.materialize([shared], partition_key=part, resources=resources, instance=instance)
        values["a"] = 10
        dg.materialize([shared, one], partition_key="a", resources=resources, instance=instance)
    rows = Table(lake, "t/shared").dataset().to_table().sort_by("part").to_pylist()
    assert rows == [{"part": "a", "n": 10}, {"part": "b", "n": 2}]


def test_a_template_gives_every_partition_its_own_table(resources: dict[str, Any], lake: Lake) -> None:
    seen: list[int] = []

    @dg.asset(metadata={"table": "t/{category}/{dataset}"}, partitions_def=PARTS)
    def own(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.table({"part": [context.partition_key], "n": [ord(context.partition_key)]})

    @dg.asset
    def both(own: ds.Dataset) -> None:
        seen.extend(sorted(own.to_table()["n"].to_pylist()))

    with dg.DagsterInstance.ephemeral() as instance:
        for part in ("a", "b"):
            dg.materialize([own], partition_key=part, resources=resources, instance=instance)
        dg.materialize([own, both], selection=[both], resources=resources, instance=instance)
    assert Table(lake, "t/a/a").row_count() == 1
    assert seen == [97, 98]


def test_a_missing_partition_is_named(resources: dict[str, Any]) -> None:
    @dg.asset(metadata={"table": "t/{partition}"}, partitions_def=PARTS)
    def own(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.table({"n": [1]})

    @dg.asset
    def both(own: ds.Dataset) -> None:
        raise AssertionError("never reached")

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([own], partition_key="a", resources=resources, instance=instance)
        with pytest.raises(dg.Failure, match=r"Partition b has no table yet.*\n.*[Mm]aterialize"):
            dg.materialize([own, both], selection=[both], resources=resources, instance=instance)


def test_a_result_without_a_value_keeps_the_table(resources: dict[str, Any], lake: Lake) -> None:
    first = [True]

    @dg.asset(metadata={"table": "t/kept"})
    def kept() -> dg.MaterializeResult[Any]:
        if first[0]:
            return dg.MaterializeResult(value=NUMBERS, metadata={"version": "one"})
        return dg.MaterializeResult(metadata={"reused": True})

    assert dg.materialize([kept], resources=resources).success
    assert Table(lake, "t/kept").note()["pixel.version"] == "one"
    first[0] = False
    assert dg.materialize([kept], resources=resources).success
    assert Table(lake, "t/kept").version() == 0


def test_anything_but_arrow_is_refused(resources: dict[str, Any]) -> None:
    @dg.asset(metadata={"table": "t/wrong"})
    def wrong() -> list[int]:
        return [1]

    with pytest.raises(dg.Failure, match="list; expected a pyarrow"):
        dg.materialize([wrong], resources=resources)


RANGE = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
MANY_PARTS = dg.StaticPartitionsDefinition(["a", "b", "c", "d"])
ALL_AT_ONCE: dict[str, Any] = {
    "partitions_def": MANY_PARTS,
    "backfill_policy": dg.BackfillPolicy.single_run(),
}


def _rows(part: str, *numbers: int) -> pa.Table:
    return pa.table({"part": [part] * len(numbers), "n": pa.array([*numbers], pa.int64())})


def _materialize(asset: dg.AssetsDefinition, resources: dict[str, Any], **options: Any) -> Any:
    return dg.materialize([asset], resources=resources, **options)


def _partition_rows(result: dg.ExecuteInProcessResult) -> dict[str | None, int]:
    """Row count of each partition's materialization."""
    events = [event.materialization for event in result.get_asset_materialization_events()]
    counts = {event.partition: event.metadata["dagster/partition_row_count"].value for event in events}
    assert len(counts) == len(events)
    return counts


@pytest.mark.parametrize("as_mapping", [True, False], ids=["mapping", "one table"])
def test_a_run_of_many_partitions_is_one_commit(
    resources: dict[str, Any], lake: Lake, as_mapping: bool
) -> None:
    table = Table(lake, "t/shared")
    table.overwrite(pa.concat_tables([_rows(part, 0) for part in "abcd"]), partition_by="part")

    @dg.asset(metadata={"table": "t/shared", "partition_by": "part"}, **ALL_AT_ONCE)
    def shared() -> Any:
        parts = {"a": _rows("a", 1, 2), "c": _rows("c", 3).to_reader()}
        return parts if as_mapping else pa.concat_tables([_rows("a", 1, 2), _rows("c", 3)])

    result = _materialize(shared, resources, tags=RANGE)
    assert table.version() == 1
    # b, for which no row came, is emptied; d, which the run was not for, stays.
    read = table.read().sort_by("n").to_pylist()
    assert [(row["part"], row["n"]) for row in read] == [("d", 0), ("a", 1), ("a", 2), ("c", 3)]
    assert _partition_rows(result) == {"a": 2, "b": 0, "c": 1}


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda: {"d": _rows("d", 1)}, r"returned partitions \['d'\]; the run is for \['a', 'b', 'c'\]"),
        (lambda: {"a": _rows("b", 1)}, "The table of partition a has rows of another part"),
        (lambda: _rows("d", 1), "Expected rows of the partitions 'a', 'b', 'c'; got part 'd'"),
        (lambda: {"a": _rows("a", 1), "b": pa.table({"part": ["b"]})}, "differ in their columns"),
        (lambda: {"a": [1]}, "list; expected a pyarrow"),
        (dict, "dict; expected a pyarrow"),
    ],
    ids=["another key", "rows under another key", "rows of another", "other columns", "no Arrow", "nothing"],
)
def test_wrong_partitions_are_refused(
    resources: dict[str, Any], lake: Lake, returned: Any, said: str
) -> None:
    @dg.asset(metadata={"table": "t/shared", "partition_by": "part"}, **ALL_AT_ONCE)
    def shared() -> Any:
        return returned()

    with pytest.raises(dg.Failure, match=said):
        _materialize(shared, resources, tags=RANGE)
    assert not Table(lake, "t/shared").exists()


def test_a_mapping_fills_the_tables_of_a_template(resources: dict[str, Any], lake: Lake) -> None:
    given: list[Any] = [{"a": _rows("a", 1), "b": _rows("b", 2)}]

    @dg.asset(metadata={"table": "t/{partition}"}, **ALL_AT_ONCE)
    def own() -> Any:
        return given[0]

    assert _partition_rows(_materialize(own, resources, tags=RANGE)) == {"a": 1, "b": 1, "c": 0}
    assert [Table(lake, f"t/{part}").row_count() for part in "abc"] == [1, 1, 0]
    given[0] = _rows("a", 1)
    with pytest.raises(dg.Failure, match=r"returned one table for 3 partitions(?s:.*)mapping"):
        _materialize(own, resources, tags=RANGE)


def test_partitions_without_a_place_are_refused(resources: dict[str, Any]) -> None:
    @dg.asset(metadata={"table": "t/nowhere"}, partitions_def=PARTS)
    def nowhere() -> pa.Table:
        return NUMBERS

    with pytest.raises(dg.Failure, match="partition_by"):
        _materialize(nowhere, resources, partition_key="a")


def test_columns_may_come_but_not_change(resources: dict[str, Any], lake: Lake) -> None:
    given = [pa.table({"n": [1]})]
    how = {"table": "t/evolving"}

    def make() -> dg.AssetsDefinition:
        @dg.asset(metadata=how)
        def evolving() -> pa.Table:
            return given[0]

        return evolving

    _materialize(make(), resources)
    given[0] = pa.table({"new": ["x"], "n": [2]})
    result = _materialize(make(), resources)
    shown = _metadata(result, "evolving")["dagster/column_schema"].columns
    assert [column.name for column in shown] == ["n", "new"]
    given[0] = pa.table({"n": ["three"]})
    with pytest.raises(
        dg.Failure, match=r"Column n is int64 in this table; string was offered(?s:.*)replace"
    ):
        _materialize(make(), resources)
    how["schema"] = "replace"
    _materialize(make(), resources)
    assert Table(lake, "t/evolving").read().to_pydict() == {"n": ["three"]}


def _load(resources: dict[str, Any], upstream: dg.AssetsDefinition, **wanted: Any) -> pa.Table:
    """What a consumer gets that asks for this in its input's metadata."""
    seen: list[Any] = []

    @dg.asset(ins={upstream.key.path[-1]: dg.AssetIn(metadata=wanted)})
    def reader(**inputs: Any) -> None:
        seen.extend(inputs.values())

    dg.materialize([upstream, reader], selection=[reader], resources=resources)
    return seen[0] if isinstance(seen[0], pa.Table) else seen[0].to_table()


def test_an_input_names_rows_and_a_version(resources: dict[str, Any]) -> None:
    given = [NUMBERS]

    @dg.asset(metadata={"table": "t/numbers"})
    def numbers() -> pa.Table:
        return given[0]

    _materialize(numbers, resources)
    given[0] = NUMBERS.slice(2)
    _materialize(numbers, resources)
    assert _load(resources, numbers, version=0)["n"].to_pylist() == [1, 2, 3]
    assert _load(resources, numbers)["n"].to_pylist() == [3]
    for rules, expected in (
        ([("part", "==", "a")], [1, 2]),
        ([["part", "==", "a"], ["n", ">", 1]], [2]),
        ([[("n", "==", 1)], [("text", "in", ["z"])]], [1, 3]),
    ):
        read = _load(resources, numbers, version=0, filter=rules, columns=["n"])
        assert read.to_pydict() == {"n": expected}
    with pytest.raises(dg.Failure, match=r"There is no version 7 of .*\.\nVersions 0 to 1 can be read"):
        _load(resources, numbers, version=7)
    for nonsense in ("n > 1", [("n", "almost", 1)], [], [["n"]]):
        with pytest.raises(dg.Failure, match=r"filter .* is not a filter"):
            _load(resources, numbers, filter=nonsense)


def test_an_input_reads_only_its_rows_and_columns(resources: dict[str, Any], lake: Lake) -> None:
    """The files of the other partition are not even there."""

    @dg.asset(metadata={"table": "t/shared", "partition_by": "part"})
    def shared() -> pa.Table:
        return NUMBERS

    _materialize(shared, resources)
    lake.data.delete(item.key for item in lake.data.list("t/shared/part=b"))
    assert _load(resources, shared, filter=[("part", "==", "a")])["n"].to_pylist() == [1, 2]
    with pytest.raises(dg.Failure, match="is gone"):
        _load(resources, shared, columns=["n"])


def test_many_partitions_come_as_one_dataset(resources: dict[str, Any], lake: Lake) -> None:
    seen: list[list[int]] = []

    @dg.asset(metadata={"table": "t/shared", "partition_by": "part"}, **ALL_AT_ONCE)
    def shared() -> Any:
        return pa.concat_tables([_rows(part, ord(part)) for part in "abc"])

    @dg.asset(metadata={"table": "t/own/{partition}"}, **ALL_AT_ONCE)
    def own() -> Any:
        # One of them has a column more.
        return {part: _rows(part, ord(part)) for part in "ab"} | {
            "c": _rows("c", 99).append_column("new", pa.array(["x"]))
        }

    @dg.asset(**ALL_AT_ONCE)
    def reader(shared: ds.Dataset, own: ds.Dataset) -> None:
        seen.extend(sorted(dataset.to_table()["n"].to_pylist()) for dataset in (shared, own))

    dg.materialize([shared, own], resources=resources, tags=RANGE)
    two = RANGE | {"dagster/asset_partition_range_end": "b"}
    dg.materialize([shared, own, reader], selection=[reader], resources=resources, tags=two)
    assert seen == [[97, 98], [97, 98]]
    dg.materialize([shared, own, reader], selection=[reader], resources=resources, tags=RANGE)
    assert seen[2:] == [[97, 98, 99], [97, 98, 99]]
