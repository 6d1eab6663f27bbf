"""S3ParquetIOManager through real Dagster runs on a real bucket."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pixel_pipeline.defs.io_manager import S3ParquetIOManager
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.lake.tables import Table

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
    assert metadata["uri"] == lake.data.uri("t/numbers")
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
