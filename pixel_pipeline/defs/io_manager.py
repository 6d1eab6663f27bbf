"""Tables between assets: Arrow in, lazily opened datasets out, Delta Lake in between."""

from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds

from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.tables import Table, TableMissingError


class S3ParquetIOManager(dg.ConfigurableIOManager):
    """Keeps an asset's table as Parquet in one Delta table on S3.

    The asset says where and how in its definition metadata:

    - `table`: key of the table in the data bucket. Placeholders `{category}`, `{dataset}` and `{partition}` give every
      family of a family-partitioned asset a table of its own.
    - `partition_by`: column of the asset's partition key, where all partitions share one table; storing one partition
      then replaces its rows alone. Also lays out an unpartitioned asset's files.

    In comes a `pyarrow.Table` or a `pyarrow.RecordBatchReader`, which is streamed. It becomes visible in one atomic
    commit, or not at all. A `version` in the output's metadata is kept in the commit (see `Table.note`).

    Out comes a `pyarrow.dataset.Dataset` over the newest commit: nothing is read until it is scanned. A consumer names
    the columns it needs in its input's metadata, `dg.AssetIn(metadata={"columns": ["id"]})`, and gets a table of these.

    Warning:
        An asset that returns `dg.MaterializeResult` without a value writes nothing; its last table stays. Assets use
        that where nothing has changed.
    """

    lake: dg.ResourceDependency[LakeResource]

    def handle_output(self, context: dg.OutputContext, obj: pa.Table | pa.RecordBatchReader) -> None:
        """Store a table. Raises dg.Failure for anything but Arrow data, and where S3 fails."""
        if not isinstance(obj, pa.Table | pa.RecordBatchReader):
            raise dg.Failure(
                description=f"{context.asset_key.to_user_string()} returned {type(obj).__name__}; "
                "expected a pyarrow.Table or a pyarrow.RecordBatchReader.",
                allow_retries=False,
            )
        metadata = context.definition_metadata
        partition_by = metadata.get("partition_by")
        partitions = list(context.asset_partition_keys) if context.has_asset_partitions else []
        with readable_failure(context):
            partition = _one_partition(partitions, partition_by) if partitions else None
            table = self._table(metadata, partitions[0] if len(partitions) == 1 else None)
            version = table.overwrite(
                obj,
                partition_by=partition_by,
                partition=partition,
                note={"pixel.version": _text(context.output_metadata.get("version"))},
            )
            context.add_output_metadata(
                {
                    "uri": dg.MetadataValue.path(table.uri),
                    "dagster/row_count": table.row_count(),
                    "dagster/column_schema": column_schema(obj.schema),
                    "delta_version": version,
                }
            )

    def load_input(self, context: dg.InputContext) -> ds.Dataset | pa.Table:
        """Open the upstream asset's newest table, or the tables of all partitions asked for as one dataset."""
        upstream = context.upstream_output
        if upstream is None:
            raise dg.Failure(
                description="S3ParquetIOManager loads the tables of assets only.", allow_retries=False
            )
        metadata = upstream.definition_metadata
        partitions: list[str | None] = (
            [*context.asset_partition_keys] if context.has_asset_partitions else [None]
        )
        with readable_failure(context):
            shared = len({self._table(metadata, partition).key for partition in partitions}) == 1
            dataset = self._dataset(metadata, partitions, shared=shared)
        if shared and metadata.get("partition_by") and partitions != [None]:
            dataset = dataset.filter(ds.field(metadata["partition_by"]).isin(partitions))
        columns = context.definition_metadata.get("columns")
        return dataset.to_table(columns=list(columns)) if columns else dataset

    def _dataset(self, metadata: Any, partitions: list[str | None], *, shared: bool) -> ds.Dataset:
        if shared:
            return self._table(metadata, partitions[0]).dataset()
        tables = []
        for partition in partitions:
            try:
                tables.append(self._table(metadata, partition).dataset())
            except TableMissingError as error:
                raise PixelError(
                    f"Partition {partition} has no table yet. {error.message}",
                    hint="Materialize that partition first.",
                ) from None
        return ds.dataset(tables)

    def _table(self, metadata: Any, partition: str | None) -> Table:
        template: str = metadata["table"]
        if "{" in template:
            if partition is None:
                raise PixelError(f"The table of {template} is one of each partition; no partition was given.")
            rule = self.lake.families().rule_of(partition)
            template = template.format(partition=partition, category=rule.category, dataset=rule.dataset)
        return Table(self.lake.open(), template)


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """An Arrow schema as the UI's column table."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=str(field.type),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def _one_partition(partitions: list[str], partition_by: str | None) -> dict[str, str] | None:
    if len(partitions) != 1:
        raise PixelError(
            f"One table for {len(partitions)} partitions at once.", hint="Return one partition a run."
        )
    return {partition_by: partitions[0]} if partition_by else None


def _text(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
