"""Tables between assets: Arrow in, lazily opened datasets out, Delta Lake in between."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.parquet import filters_to_expression

from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.tables.files import PartitionMismatchError
from pixel_pipeline.lake.tables.schema import SchemaMismatchError
from pixel_pipeline.lake.tables.table import Commit, Table, TableMissingError

# pa.Table | pa.RecordBatchReader
Stored: TypeAlias = Any


class S3ParquetIOManager(dg.ConfigurableIOManager):
    """Keeps an asset's table as Parquet in a Delta table on S3.

    The asset says where and how in its definition metadata:

    - `table`: key of the table in the data bucket. Placeholders `{category}`, `{dataset}` and `{partition}` give every
      partition a table of its own.
    - `partition_by`: column of the asset's partition key, where all partitions share one table. A run replaces the rows of
      its partitions, however many they are, in one atomic commit; rows of others fail it. Also lays out the files of an
      asset without partitions.
    - `schema`: "evolve" (default) keeps the columns of the table and adds new nullable ones; other types are refused.
      "replace" takes the columns that come.

    In comes a `pyarrow.Table` or a `pyarrow.RecordBatchReader`, which is streamed, or from a run of many partitions also a
    mapping of these by partition key. A partition that no row comes for is emptied. A `version` in the output's metadata
    is kept in the commit (see `Table.note`).

    Tables of their own change one after the other; a shared one changes once for all partitions.

    Out comes a `pyarrow.dataset.Dataset` over the newest commit: nothing is read until it is scanned. A consumer asks for
    less in its input's metadata, `dg.AssetIn(metadata={"columns": ["id"], "filter": [("split", "==", "test")]})`, and gets
    a `pyarrow.Table` of that; the rest is not read. `filter` is what `pyarrow.parquet.filters_to_expression` takes. With
    `"version": 3` it gets the table as of that Delta version.

    Warning:
        An asset that returns `dg.MaterializeResult` without a value writes nothing; its last table stays. Assets use
        that where nothing has changed.
    """

    lake: dg.ResourceDependency[LakeResource]

    def handle_output(self, context: dg.OutputContext, obj: Stored | Mapping[str, Stored]) -> None:
        """Store a table. Raises dg.Failure for anything but Arrow data, and where rows, columns or S3 are not right."""
        partitions = sorted(context.asset_partition_keys) if context.has_asset_partitions else []
        parts = obj if isinstance(obj, Mapping) else {"": obj}
        wrong = next(
            (part for part in parts.values() if not isinstance(part, pa.Table | pa.RecordBatchReader)), None
        )
        if wrong is not None or not parts or (isinstance(obj, Mapping) and not partitions):
            raise dg.Failure(
                description=f"{context.asset_key.to_user_string()} returned "
                f"{type(obj if wrong is None else wrong).__name__}; expected a pyarrow.Table or a pyarrow.RecordBatchReader, "
                "or from a partitioned asset a mapping of these by partition key.",
                allow_retries=False,
            )
        with readable_failure(context):
            if isinstance(obj, Mapping) and not set(obj) <= set(partitions):
                raise PartitionMismatchError(
                    f"Partitions {sorted(set(obj) - set(partitions))} came from a run for {partitions}.",
                    hint="Return only partitions that the run is for.",
                )
            writes = self._writes(context.definition_metadata, obj, partitions=partitions)
            commits = [
                (
                    table,
                    table.overwrite(
                        rows,
                        partition_by=context.definition_metadata.get("partition_by"),
                        partition=partition,
                        note={"pixel.version": _text(context.output_metadata.get("version"))},
                        schema=context.definition_metadata.get("schema", "evolve"),
                    ),
                )
                for table, rows, partition in writes
            ]
            context.add_output_metadata(_facts(commits, n_partitions=len(partitions)))

    def load_input(self, context: dg.InputContext) -> ds.Dataset | pa.Table:
        """Open the upstream asset's table, or the tables of all partitions asked for as one dataset."""
        upstream = context.upstream_output
        if upstream is None:
            raise dg.Failure(
                description="S3ParquetIOManager loads the tables of assets only.", allow_retries=False
            )
        metadata, wanted = upstream.definition_metadata, context.definition_metadata
        partitions = sorted(context.asset_partition_keys) if context.has_asset_partitions else []
        with readable_failure(context):
            rows = _rows_wanted(metadata, wanted, partitions=partitions)
            keys: list[str | None] = [*partitions] if partitions and _is_template(metadata) else [None]
            tables = {partition: self._table(metadata, partition) for partition in keys}
            if wanted.get("version") is not None and len(tables) > 1:
                raise PixelError(
                    "A version was asked for of many tables, each of which has versions of its own."
                )
            datasets = [
                _opened(table, partition=partition, version=wanted.get("version"))
                for partition, table in tables.items()
            ]
            dataset = datasets[0] if len(datasets) == 1 else ds.dataset(datasets)
            columns = wanted.get("columns")
            if columns is None and wanted.get("filter") is None:
                return dataset if rows is None else dataset.filter(rows)
            return next(iter(tables.values())).scan(
                dataset, columns=None if columns is None else [*columns], filter=rows
            )

    def _writes(
        self, metadata: Mapping[str, Any], obj: Stored | Mapping[str, Stored], *, partitions: list[str]
    ) -> Iterator[tuple[Table, Stored, dict[str, list[str]] | None]]:
        """Which rows go where, one commit each; with the partitions that they replace."""
        column = metadata.get("partition_by")
        if partitions and _is_template(metadata):
            if not isinstance(obj, Mapping) and len(partitions) > 1:
                raise PixelError(
                    f"One table came for {len(partitions)} partitions that have tables of their own.",
                    hint="Return a mapping of tables by partition key.",
                )
            parts = obj if isinstance(obj, Mapping) else {partitions[0]: obj}
            empty = next(iter(parts.values())).schema.empty_table()
            for partition in partitions:
                yield self._table(metadata, partition), parts.get(partition, empty), None
            return
        if partitions and column is None:
            raise PixelError(
                f"Nothing says where partitions lie in {metadata['table']}; each would replace all the others.",
                hint="Name their column in the asset's metadata as `partition_by`, or put {partition} into `table`.",
            )
        rows = _joined(obj, column=column or "") if isinstance(obj, Mapping) else obj
        yield self._table(metadata, None), rows, {column: partitions} if partitions and column else None

    def _table(self, metadata: Mapping[str, Any], partition: str | None) -> Table:
        key: str = metadata["table"]
        if _is_template(metadata):
            if partition is None:
                raise PixelError(f"The table of {key} is one of each partition; no partition was given.")
            rule = self.lake.families().rule_of(partition)
            key = key.format(partition=partition, category=rule.category, dataset=rule.dataset)
        return Table(self.lake.open(), key)


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


def _is_template(metadata: Mapping[str, Any]) -> bool:
    return "{" in metadata["table"]


def _joined(parts: Mapping[str, Stored], *, column: str) -> pa.RecordBatchReader:
    """The rows of all partitions as one stream. Each has to hold rows of its own partition alone."""
    schemas = [part.schema for part in parts.values()]
    different = next((schema for schema in schemas if not schema.equals(schemas[0])), None)
    if different is not None:
        raise SchemaMismatchError("The tables of a run's partitions differ in their columns.")

    def batches() -> Iterator[pa.RecordBatch]:
        for partition, part in parts.items():
            for batch in part.to_batches() if isinstance(part, pa.Table) else part:
                if pc.any(pc.not_equal(batch[column], partition)).as_py():
                    raise PartitionMismatchError(
                        f"The table of partition {partition} has rows of another {column}."
                    )
                yield batch

    return pa.RecordBatchReader.from_batches(schemas[0], batches())


def _rows_wanted(
    metadata: Mapping[str, Any], wanted: Mapping[str, Any], *, partitions: list[str]
) -> ds.Expression | None:
    """Rows of the partitions asked for that the consumer's filter admits; None for all."""
    expressions: list[ds.Expression] = []
    if partitions and metadata.get("partition_by") and not _is_template(metadata):
        expressions.append(ds.field(metadata["partition_by"]).isin(partitions))
    if wanted.get("filter") is not None:
        expressions.append(_expression(wanted["filter"]))
    return expressions[0] & expressions[1] if len(expressions) == 2 else next(iter(expressions), None)


def _expression(rules: Any) -> ds.Expression:
    try:
        # Triples, or lists of triples; JSON has made lists of the triples.
        groups = [rules] if isinstance(rules[0][0], str) else rules
        return filters_to_expression([[tuple(rule) for rule in group] for group in groups])
    except (ValueError, TypeError, IndexError, KeyError):
        raise PixelError(
            f"The input's filter {rules!r} is none.",
            hint='Give it as [("column", "==", value), ...]; all must hold. A list of such lists: one of them must.',
        ) from None


def _opened(table: Table, *, partition: str | None, version: int | None) -> ds.Dataset:
    try:
        return table.dataset(version=version)
    except TableMissingError as error:
        raise TableMissingError(
            error.message
            if partition is None
            else f"Partition {partition} has no table yet. {error.message}",
            hint=f"Materialize that {'asset' if partition is None else 'partition'} first.",
        ) from None


def _facts(commits: Sequence[tuple[Table, Commit]], *, n_partitions: int) -> dict[str, Any]:
    """What the UI shows: Dagster's own names where it has one."""
    written = sum(commit.rows for _, commit in commits)
    facts: dict[str, Any] = {
        "dagster/storage_kind": "deltalake",
        "files": sum(commit.files for _, commit in commits),
        "bytes": sum(commit.bytes for _, commit in commits),
    }
    if n_partitions == 0:
        facts["dagster/row_count"] = written
    elif n_partitions == 1:
        facts["dagster/partition_row_count"] = written
    else:
        # The same metadata goes to each of the partitions.
        facts["rows of all partitions"] = written
    if len(commits) == 1:
        ((table, commit),) = commits
        facts |= {
            "uri": dg.MetadataValue.path(table.uri),
            "dagster/uri": table.uri,
            "dagster/table_name": f"{table.lake.data.name}.{table.key.replace('/', '.')}",
            "dagster/column_schema": column_schema(table.dataset().schema),
            "delta_version": commit.version,
        }
    return facts


def _text(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
