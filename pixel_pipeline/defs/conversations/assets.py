"""`conversations` converts raw objects, one partition per family."""

from collections.abc import Iterator
import traceback
from typing import Any, NoReturn

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pixel_pipeline.conversations.model.recipe import RECIPE_VERSION
from pixel_pipeline.conversations.work.build import (
    FamilyReport,
    convert_family,
    families_of,
    retract_families,
)
from pixel_pipeline.conversations.work.family import TABLE_SCHEMA
from pixel_pipeline.defs import freshness, metadata
from pixel_pipeline.defs.columns import CONVERSATION_COLUMNS, column_schema
from pixel_pipeline.defs.failures import fail_step, readable_failure
from pixel_pipeline.defs.partitions import FAMILIES
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys

SHOWN_FAILURES = 10


@dg.asset(
    kinds={"s3", "deltalake"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="data",
    code_version=RECIPE_VERSION,
    partitions_def=FAMILIES,
    backfill_policy=dg.BackfillPolicy.single_run(),
    freshness_policy=freshness.DATA,
    # A run of several partitions alone reports each of them itself: a result would give all of them one data version.
    output_required=False,
    metadata={
        "table": f"{keys.PROCESSED}/{{category}}/{{dataset}}",
        "dagster/column_schema": column_schema(TABLE_SCHEMA, CONVERSATION_COLUMNS),
    },
    description=(
        "Canonical ChatML conversations of each family. Records that cannot be converted are in quarantine with the reason and their "
        "bytes; the ledger counts every record."
    ),
)
def conversations(
    context: dg.AssetExecutionContext, raw_inventory: ds.Dataset, lake: LakeResource
) -> Iterator[dg.MaterializeResult[Any]]:
    """Convert the families of the run's partitions; all families in a run without partitions, such as `prepare_data`."""
    everything = not (context.has_partition_key or context.has_partition_key_range)
    reports: list[FamilyReport] = []
    failures: dict[str, Exception] = {}
    with readable_failure(context):
        store = lake.open()
        config = lake.families()
        inventory: pa.Table = raw_inventory.to_table(columns=["key", "size", "etag"])
        if not everything:
            # The cost of a run depends on the objects of its families, not on all objects.
            family = config.family_column(inventory["key"])
            inventory = inventory.filter(
                pc.is_in(family, value_set=pa.array(context.partition_keys, pa.string()))
            )
        families = families_of(inventory, config=config, bucket=store.data.name)
        several = everything or len(context.partition_keys) > 1
        with lake.executor() as executor:
            for family, (rule, objects) in sorted(families.items()):
                try:
                    report = convert_family(store, rule=rule, objects=objects, executor=executor)
                except Exception as error:  # noqa: BLE001  one family must not stop the others
                    context.log.error(f"{family}: {_cause(error)}{_stack(error)}")
                    failures[family] = error
                    continue
                reports.append(report)
                context.log.info(_summary(report))
                if several:
                    context.log_event(_materialization(context.asset_key, report))
        if everything and not failures:
            for family in retract_families(store, present=[rule for rule, _ in families.values()]):
                context.log.info(f"{family}: no raw objects any more; its records are removed")
    if failures:
        _fail(context, failures, families=len(families))
    if not several and reports:
        yield dg.MaterializeResult(
            metadata=_facts(reports[0]), data_version=dg.DataVersion(reports[0].version)
        )
    elif everything or context.run.asset_selection != {context.asset_key}:
        # Downstream steps of this run start only after a result.
        yield dg.MaterializeResult(metadata=_totals(reports))


def _materialization(asset_key: dg.AssetKey, report: FamilyReport) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        asset_key,
        partition=report.family,
        metadata=_facts(report),
        tags={"dagster/data_version": report.version},
    )


def _fail(context: dg.AssetExecutionContext, failures: dict[str, Exception], *, families: int) -> NoReturn:
    shown = [f"{family}: {_cause(error)}" for family, error in [*failures.items()][:SHOWN_FAILURES]]
    if len(failures) > SHOWN_FAILURES:
        shown.append(f"… and {len(failures) - SHOWN_FAILURES:,} more")
    noun = "family" if families == 1 else "families"
    fail_step(
        context,
        "\n".join([f"{len(failures):,} of {families:,} {noun} failed; the others are converted.", *shown]),
        transient=any(isinstance(error, PixelError) and error.transient for error in failures.values()),
    )


def _cause(error: Exception) -> str:
    # The message of an unexpected error may quote the data.
    return str(error) if isinstance(error, PixelError) else f"unexpected {type(error).__name__}"


def _stack(error: Exception) -> str:
    return "" if isinstance(error, PixelError) else "\n" + "".join(traceback.format_tb(error.__traceback__))


def _summary(report: FamilyReport) -> str:
    if report.reused:
        return f"{report.family}: {report.records_out:,} conversations — unchanged"
    parts = [f"{report.records_in:,} records → {report.records_out:,} conversations"]
    if report.quarantined:
        parts.append(f"quarantined: {metadata.counts(report.quarantined)}")
    if report.converted < report.objects:
        parts.append(f"{report.converted:,} of {report.objects:,} objects were new or changed")
    if report.dropped:
        parts.append(f"dropped: {metadata.counts(report.dropped)}")
    return f"{report.family}: " + "; ".join(parts)


def _facts(report: FamilyReport) -> dict[str, Any]:
    """Metadata of one partition."""
    return {
        "dagster/partition_row_count": report.records_out,
        "uri": dg.MetadataValue.path(report.table),
        **metadata.figures(
            {
                "objects": report.objects,
                "objects converted": report.converted,
                "size (MB)": metadata.megabytes(report.bytes),
                "records in": report.records_in,
                "records quarantined": sum(report.quarantined.values()),
                "records dropped": sum(report.dropped.values()),
            },
            reused=report.reused,
        ),
        "quarantined": metadata.counts(report.quarantined),
        "dropped": metadata.counts(report.dropped),
        "formats": metadata.counts(report.formats),
        "repaired": metadata.counts(report.repaired),
        "version": metadata.digest(report.version),
        "reused": report.reused,
    }


def _totals(reports: list[FamilyReport]) -> dict[str, Any]:
    """Metadata of a run of several families."""
    return {
        "dagster/row_count": sum(report.records_out for report in reports),
        **metadata.figures(
            {
                "records in": sum(report.records_in for report in reports),
                "records quarantined": sum(sum(report.quarantined.values()) for report in reports),
                "records dropped": sum(sum(report.dropped.values()) for report in reports),
            },
            reused=all(report.reused for report in reports),
        ),
        "families": metadata.table(
            [
                {
                    "family": report.family,
                    "records": report.records_in,
                    "converted": report.records_out,
                    "quarantine": sum(report.quarantined.values()),
                }
                for report in reports
            ]
        ),
        "reused": all(report.reused for report in reports),
    }
