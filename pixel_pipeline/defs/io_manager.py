"""Tables between assets: Arrow in, lazily opened datasets out, Delta Lake in between."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.parquet import filters_to_expression

from pixel_pipeline.defs.columns import described_like
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.metadata import megabytes
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.tables.files import PartitionMismatchError
from pixel_pipeline.lake.tables.schema import SchemaMismatchError
from pixel_pipeline.lake.tables.table import Commit, Table, TableMissingError

# pa.Table | pa.RecordBatchReader
Stored: TypeAlias = Any


class S3ParquetIOManager(dg.ConfigurableIOManager):
    """Stores an asset's table as Parquet in a Delta table on S3.

    The asset's definition metadata names the table and its layout:

    - `table`: Key of the table in the data bucket. With a placeholder (`{category}`, `{dataset}`, `{partition}`) every partition has a
      table of its own.
    - `partition_by`: Column that holds the partition key, if all partitions share one table. A run replaces the rows of its partitions,
      however many, in one atomic commit, and fails on rows of other partitions. It also lays out the files of an asset without partitions.
    - `schema`: "evolve" (default) keeps the table's columns, adds new nullable ones and refuses changed types. "replace" takes the columns
      of the new rows.

    An asset returns a `pyarrow.Table`, or a `pyarrow.RecordBatchReader`, which is streamed. A run of many partitions may also return a
    mapping of these by partition key. A partition without rows is emptied. `version` in the output's metadata is stored in the commit (see
    `Table.note`). Tables per partition change one after the other; a shared table changes once.

    A downstream asset gets a `pyarrow.dataset.Dataset` of the newest commit, which reads nothing before it is scanned. Metadata of its
    input can ask for less; the asset then gets a `pyarrow.Table`, and the rest is not read. `filter` takes the form of
    `pyarrow.parquet.filters_to_expression`, and `version` is a Delta version:

        dg.AssetIn(metadata={"columns": ["id"], "filter": [("split", "==", "test")], "version": 3})

    Warning:
        An asset that returns `dg.MaterializeResult` without a value writes nothing, and its last table stays. Assets do so if nothing
        has changed.
    """

    lake: dg.ResourceDependency[LakeResource]

    def handle_output(self, context: dg.OutputContext, obj: Stored | Mapping[str, Stored]) -> None:
        """Store a table. Fails the step on anything but Arrow data, on wrong rows or columns, and on S3 errors."""
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
                    f"The asset returned partitions {sorted(set(obj) - set(partitions))}; the run is for {partitions}.",
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
            facts = _facts(commits, context.definition_metadata)
            if not partitions:
                facts["dagster/row_count"] = sum(commit.rows for _, commit in commits)
            context.add_output_metadata(facts)
            counts = _row_counts(commits, context.definition_metadata, partitions=partitions)
        for partition, count in counts.items():
            context.step_context.add_asset_metadata(
                {"dagster/partition_row_count": count}, asset_key=context.asset_key, partition_key=partition
            )

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
                    "A version needs a single table, and the input has several tables with versions of their own."
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
        """The commits to make: a table, its rows, and the partitions that they replace."""
        column = metadata.get("partition_by")
        if partitions and _is_template(metadata):
            if not isinstance(obj, Mapping) and len(partitions) > 1:
                raise PixelError(
                    f"The asset returned one table for {len(partitions)} partitions that have tables of their own.",
                    hint="Return a mapping of tables by partition key.",
                )
            parts = obj if isinstance(obj, Mapping) else {partitions[0]: obj}
            empty = next(iter(parts.values())).schema.empty_table()
            for partition in partitions:
                yield self._table(metadata, partition), parts.get(partition, empty), None
            return
        if partitions and column is None:
            raise PixelError(
                f"The table {metadata['table']} has no partition column, so each partition would replace all others.",
                hint="Name the column as `partition_by` in the asset's metadata, or put {partition} into `table`.",
            )
        rows = _joined(obj, column=column or "") if isinstance(obj, Mapping) else obj
        yield self._table(metadata, None), rows, {column: partitions} if partitions and column else None

    def _table(self, metadata: Mapping[str, Any], partition: str | None) -> Table:
        key: str = metadata["table"]
        if _is_template(metadata):
            if partition is None:
                raise PixelError(f"{key} names one table per partition, and the run has no partition.")
            rule = self.lake.families().rule_of(partition)
            key = key.format(partition=partition, category=rule.category, dataset=rule.dataset)
        return Table(self.lake.open(), key)


def _is_template(metadata: Mapping[str, Any]) -> bool:
    return "{" in metadata["table"]


def _joined(parts: Mapping[str, Stored], *, column: str) -> pa.RecordBatchReader:
    """The rows of all partitions as one stream. Each part may only have rows of its own partition."""
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
    """Filter for the requested partitions and the filter of the input; None for all rows."""
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
            f"The input's filter {rules!r} is not a filter.",
            hint='Give [("column", "==", value), …] for conditions that must all hold, or a list of such lists for alternatives.',
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


def _facts(commits: Sequence[tuple[Table, Commit]], definition: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of all partitions of a run, under Dagster's own names where it has one."""
    facts: dict[str, Any] = {
        "files": sum(commit.files for _, commit in commits),
        "size (MB)": megabytes(sum(commit.bytes for _, commit in commits)),
    }
    if len(commits) == 1:
        ((table, commit),) = commits
        facts |= {
            "uri": dg.MetadataValue.path(table.uri),
            "dagster/uri": table.uri,
            "dagster/table_name": f"{table.lake.data.name}.{table.key.replace('/', '.')}",
            "dagster/column_schema": described_like(
                table.dataset().schema, definition.get("dagster/column_schema")
            ),
            "table version": commit.version,
        }
    return facts


def _row_counts(
    commits: Sequence[tuple[Table, Commit]], definition: Mapping[str, Any], *, partitions: Sequence[str]
) -> dict[str, int]:
    """Rows of each partition of the run."""
    if _is_template(definition):
        return {partition: commit.rows for partition, (_, commit) in zip(partitions, commits, strict=True)}
    if not partitions:
        return {}
    ((table, _),) = commits
    column, dataset = definition.get("partition_by"), table.dataset()
    return {partition: dataset.count_rows(filter=ds.field(column) == partition) for partition in partitions}


def _text(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
