"""What the lake offers, written down."""

from typing import Any

import dagster as dg
import pyarrow.dataset as ds

from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.automation import FOLLOW_UPSTREAM
from pixel_pipeline.defs.freshness import DATASET_REGISTRY
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.registry.dataset_registry import RECIPE_VERSION, build


@dg.asset(
    kinds={"s3", "json"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="data",
    automation_condition=FOLLOW_UPSTREAM,
    freshness_policy=DATASET_REGISTRY,
    description="`config/dataset_registry.json`: every curated dataset by category, with counts, versions and paths.",
)
def dataset_registry(
    context: dg.AssetExecutionContext, curated: ds.Dataset, lake: LakeResource
) -> dg.MaterializeResult[Any]:
    """Describe the curated datasets and publish the description atomically."""
    with readable_failure(context):
        store = lake.open()
        config = lake.families()
        source = Table(store, keys.CURATED).note()
        rules = {
            family: config.rule_of(family) for family in context.instance.get_dynamic_partitions("family")
        }
        source_version = fingerprint(RECIPE_VERSION, source, rules)
        memo = Memo(store, "dataset_registry")
        reused = memo.recall(source_version) is not None and store.data.exists(keys.REGISTRY)
        if reused:
            registry = store.data.get_json(keys.REGISTRY)
        else:
            registry = build(curated, families=rules, data=store.data)
            store.data.put_json(keys.REGISTRY, registry)
            memo.remember(source_version, {"version": registry["version"]})
    context.log.info(
        f"registry {registry['version']}: {len(registry['datasets'])} datasets, "
        f"{registry['conversations']:,} conversations" + (" — unchanged" if reused else "")
    )
    return dg.MaterializeResult(
        metadata={
            "uri": dg.MetadataValue.path(store.data.uri(keys.REGISTRY)),
            "version": registry["version"],
            "conversations": registry["conversations"],
            "datasets": metadata.table(
                [
                    {
                        "category": entry["category"],
                        "dataset": entry["dataset"],
                        **{
                            split: entry["conversations"].get(split, 0)
                            for split in ("train", "validation", "test")
                        },
                        "turns": entry["turns"],
                        "characters": entry["characters"],
                    }
                    for entry in registry["datasets"]
                ]
            ),
            "reused": reused,
        },
        data_version=dg.DataVersion(registry["version"]),
    )
