"""Canonical conversations to curated ones."""

from typing import Any

import dagster as dg
import pyarrow.dataset as ds

from pixel_pipeline.curation.curate import CURATED_SCHEMA, RECIPE_VERSION, curated_batches, decide
from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.automation import FOLLOW_UPSTREAM
from pixel_pipeline.defs.io_manager import column_schema
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.tables.table import Table

DROPPED = {
    "exact duplicates": "exact_duplicate",
    "near duplicates": "near_duplicate",
    "preference pairs": "preference",
}
"""Reasons as they are shown."""


@dg.asset(
    kinds={"s3", "deltalake"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="data",
    automation_condition=FOLLOW_UPSTREAM,
    metadata={
        "table": keys.CURATED,
        "partition_by": "family",
        # Written whole from the conversations each time: their columns are its columns.
        "schema": "replace",
        "dagster/column_schema": column_schema(CURATED_SCHEMA),
    },
    description=(
        "Conversations without exact and near duplicates across all families, each in its split. What was dropped, and in "
        "favour of which, lies in the dropped table."
    ),
)
def curated(
    context: dg.AssetExecutionContext, conversations: ds.Dataset, lake: LakeResource
) -> dg.MaterializeResult[Any]:
    """Drop duplicates and assign splits."""
    with readable_failure(context):
        store = lake.open()
        table, dropped = Table(store, keys.CURATED), Table(store, keys.DROPPED)
        families = context.instance.get_dynamic_partitions("family")
        rules = {family: lake.families().rule_of(family) for family in families}
        sources = {
            family: Table(
                store, keys.conversations_table(category=rule.category, dataset=rule.dataset)
            ).note()
            for family, rule in rules.items()
        }
        version = fingerprint(RECIPE_VERSION, sources)
        memo = Memo(store, "curated")
        counts = memo.recall(version)
        # The memo is written before the IO manager commits, so the commit itself has to say that it happened.
        if counts is not None and table.note().get("pixel.version") == version:
            context.log.info(f"{counts['records_out']:,} curated conversations — unchanged")
            return dg.MaterializeResult(
                metadata=_facts(counts, table=table, dropped=dropped, version=version, reused=True),
                data_version=dg.DataVersion(version),
            )
        decision = decide(conversations)
        dropped.overwrite(decision.dropped, note={"pixel.version": version})
        by_family = decision.dropped_counts()
        counts = {
            "records_in": decision.records_in.total(),
            "records_out": decision.records_out.total(),
            "families": [
                {
                    "family": family,
                    "conversations": decision.records_in[family],
                    **{shown: by_family.get(family, {}).get(reason, 0) for shown, reason in DROPPED.items()},
                    "curated": decision.records_out[family],
                }
                for family in sorted(decision.records_in)
            ],
        }
        memo.remember(version, counts)
    dropped_by_reason = {
        reason: n for reason in DROPPED if (n := sum(row[reason] for row in counts["families"]))
    }
    context.log.info(
        f"{counts['records_in']:,} conversations → {counts['records_out']:,} curated; dropped: "
        + (", ".join(f"{n:,} {reason}" for reason, n in dropped_by_reason.items()) or "none")
    )
    return dg.MaterializeResult(
        value=curated_batches(conversations, decision),
        metadata=_facts(counts, table=table, dropped=dropped, version=version, reused=False),
        data_version=dg.DataVersion(version),
    )


def _facts(
    counts: dict[str, Any], *, table: Table, dropped: Table, version: str, reused: bool
) -> dict[str, Any]:
    return {
        "uri": dg.MetadataValue.path(table.uri),
        "dropped_uri": dg.MetadataValue.path(dropped.uri),
        "records_in": counts["records_in"],
        "records_out": counts["records_out"],
        "families": metadata.table(counts["families"]),
        "version": version,
        "reused": reused,
    }
