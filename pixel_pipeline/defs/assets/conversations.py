"""Raw objects to canonical conversations, one partition a family."""

from dataclasses import asdict
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pixel_pipeline.conversations.work.build import (
    FamilyReport,
    convert_family,
    families_of,
    retract_families,
)
from pixel_pipeline.conversations.work.family import TABLE_SCHEMA
from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.io_manager import column_schema
from pixel_pipeline.defs.partitions import FAMILIES
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.lake import keys


@dg.asset(
    kinds={"s3", "deltalake"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="data",
    partitions_def=FAMILIES,
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata={
        "table": f"{keys.PROCESSED}/{{category}}/{{dataset}}",
        "dagster/column_schema": column_schema(TABLE_SCHEMA),
    },
    description=(
        "Canonical ChatML conversations of each family. What cannot be converted lies in the quarantine with its reason "
        "and its bytes; every record is in the ledger."
    ),
)
def conversations(
    context: dg.AssetExecutionContext, raw_inventory: ds.Dataset, lake: LakeResource
) -> dg.MaterializeResult[Any]:
    """Convert the families asked for; all of them in a run without a partition, as `prepare_data` is."""
    everything = not (context.has_partition_key or context.has_partition_key_range)
    with readable_failure(context):
        store = lake.open()
        config = lake.families()
        inventory: pa.Table = raw_inventory.to_table(columns=["key", "size", "etag"])
        if not everything:
            # One family of a million objects costs what it holds, not what all hold.
            family = config.family_column(inventory["key"])
            inventory = inventory.filter(
                pc.is_in(family, value_set=pa.array(context.partition_keys, pa.string()))
            )
        families = families_of(inventory, config=config, bucket=store.data.name)
        wanted = (
            sorted(families)
            if everything
            else [family for family in context.partition_keys if family in families]
        )
        reports = []
        with lake.executor() as executor:
            for family in wanted:
                rule, objects = families[family]
                report = convert_family(store, rule=rule, objects=objects, executor=executor)
                reports.append(report)
                context.log.info(_summary(report))
                if everything:
                    context.log_event(
                        dg.AssetMaterialization(context.asset_key, partition=family, metadata=_facts(report))
                    )
        if everything:
            for family in retract_families(store, present=[rule for rule, _ in families.values()]):
                context.log.info(f"{family}: no raw objects any more, taken out of the books")
    if len(reports) == 1:
        return dg.MaterializeResult(
            metadata=_facts(reports[0]), data_version=dg.DataVersion(reports[0].version)
        )
    return dg.MaterializeResult(
        metadata={
            "families": metadata.table([_row(report) for report in reports]),
            "records_in": sum(report.records_in for report in reports),
            "dagster/row_count": sum(report.records_out for report in reports),
            "reused": all(report.reused for report in reports),
        }
    )


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


def _row(report: FamilyReport) -> dict[str, Any]:
    return {
        "family": report.family,
        "objects": report.objects,
        "records in": report.records_in,
        "conversations": report.records_out,
        "quarantined": sum(report.quarantined.values()),
        "dropped": sum(report.dropped.values()),
    }


def _facts(report: FamilyReport) -> dict[str, Any]:
    facts: dict[str, Any] = asdict(report)
    facts["uri"] = dg.MetadataValue.path(facts.pop("table"))
    facts["dagster/row_count"] = facts.pop("records_out")
    return facts
