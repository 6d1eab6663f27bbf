"""`curated` removes duplicates from the conversations and assigns splits."""

from typing import Any

import dagster as dg
import pyarrow.dataset as ds

from pixel_pipeline.curation.curate import CURATED_SCHEMA, RECIPE_VERSION, curated_batches, decide
from pixel_pipeline.defs import freshness, metadata
from pixel_pipeline.defs.automation import FOLLOW_UPSTREAM
from pixel_pipeline.defs.columns import CURATED_COLUMNS, column_schema
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.partitions import known_families
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.tables.table import Table

DROPPED = {
    "exact duplicates": "exact_duplicate",
    "near duplicates": "near_duplicate",
    "preference pairs": "preference",
}
"""Reasons by their label."""


@dg.asset(
    kinds={"s3", "deltalake"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="data",
    code_version=RECIPE_VERSION,
    automation_condition=FOLLOW_UPSTREAM,
    freshness_policy=freshness.DATA,
    metadata={
        "table": keys.CURATED,
        "partition_by": "family",
        # Rewritten whole each time, with the columns of the conversations.
        "schema": "replace",
        "dagster/column_schema": column_schema(CURATED_SCHEMA, CURATED_COLUMNS),
    },
    description=(
        "Conversations without exact and near duplicates across all families, each with its split. The table `_pixel/dropped` lists every "
        "dropped conversation and the one kept in its place."
    ),
)
def curated(
    context: dg.AssetExecutionContext, conversations: ds.Dataset, lake: LakeResource
) -> dg.MaterializeResult[Any]:
    """Drop duplicates and assign splits."""
    with readable_failure(context):
        store = lake.open()
        config = lake.families()
        table, dropped = Table(store, keys.CURATED), Table(store, keys.DROPPED)
        sources = {
            family: Table(
                store, keys.conversations_table(category=rule.category, dataset=rule.dataset)
            ).note()
            for family in sorted(known_families(context.instance))
            for rule in [config.rule_of(family)]
        }
        version = fingerprint(RECIPE_VERSION, sources)
        memo = Memo(store, "curated")
        counts = memo.recall(version)
        # The memo is written before the I/O manager commits, so the table's own note decides.
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
                    **{label: by_family.get(family, {}).get(reason, 0) for label, reason in DROPPED.items()},
                    "curated": decision.records_out[family],
                }
                for family in sorted(decision.records_in)
            ],
        }
        memo.remember(version, counts)
    by_reason = {label: n for label, n in _dropped(counts).items() if n}
    context.log.info(
        f"{counts['records_in']:,} conversations → {counts['records_out']:,} curated; dropped: "
        + (", ".join(f"{n:,} {label}" for label, n in by_reason.items()) or "none")
    )
    return dg.MaterializeResult(
        value=curated_batches(conversations, decision),
        metadata=_facts(counts, table=table, dropped=dropped, version=version, reused=False),
        data_version=dg.DataVersion(version),
    )


def _dropped(counts: dict[str, Any]) -> dict[str, int]:
    return {label: sum(row[label] for row in counts["families"]) for label in DROPPED}


def _facts(
    counts: dict[str, Any], *, table: Table, dropped: Table, version: str, reused: bool
) -> dict[str, Any]:
    return {
        "dagster/row_count": counts["records_out"],
        "uri": dg.MetadataValue.path(table.uri),
        "dropped table": dg.MetadataValue.path(dropped.uri),
        **metadata.figures({"conversations in": counts["records_in"], **_dropped(counts)}, reused=reused),
        "families": metadata.table(
            [
                {
                    "family": row["family"],
                    "in": row["conversations"],
                    "dropped": sum(row[label] for label in DROPPED),
                    "curated": row["curated"],
                }
                for row in counts["families"]
            ]
        ),
        # The I/O manager stores it in the commit.
        "version": version,
        "reused": reused,
    }
