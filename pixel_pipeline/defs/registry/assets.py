"""`dataset_registry` publishes the curated datasets with their counts and paths."""

from typing import Any

import dagster as dg
import pyarrow.dataset as ds

from pixel_pipeline.defs import freshness, metadata
from pixel_pipeline.defs.automation import FOLLOW_UPSTREAM
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.partitions import known_families
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.registry.dataset_registry import RECIPE_VERSION, build

SPLITS = ("train", "validation", "test")


@dg.asset(
    kinds={"s3", "json"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="data",
    code_version=RECIPE_VERSION,
    automation_condition=FOLLOW_UPSTREAM,
    freshness_policy=freshness.DATA,
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
        rules = {family: config.rule_of(family) for family in known_families(context.instance)}
        source_version = fingerprint(RECIPE_VERSION, source, rules)
        memo = Memo(store, "dataset_registry")
        reused = memo.recall(source_version) is not None and store.data.exists(keys.REGISTRY)
        if reused:
            registry = store.data.get_json(keys.REGISTRY)
        else:
            registry = build(curated, families=rules, data=store.data)
            store.data.put_json(keys.REGISTRY, registry)
            memo.remember(source_version, {"version": registry["version"]})
    datasets = registry["datasets"]
    context.log.info(
        f"registry {registry['version']}: {len(datasets)} datasets, "
        f"{registry['conversations']:,} conversations" + (" — unchanged" if reused else "")
    )
    return dg.MaterializeResult(
        metadata={
            "uri": dg.MetadataValue.path(store.data.uri(keys.REGISTRY)),
            "version": registry["version"],
            **metadata.figures(
                {
                    "datasets": len(datasets),
                    "conversations": registry["conversations"],
                    "turns": sum(entry["turns"] for entry in datasets),
                    "characters": sum(entry["characters"] for entry in datasets),
                },
                reused=reused,
            ),
            "splits": metadata.table(
                [
                    {
                        "dataset": entry["dataset"],
                        **{split: entry["conversations"].get(split, 0) for split in SPLITS},
                    }
                    for entry in datasets
                ]
            ),
            "reused": reused,
        },
        data_version=dg.DataVersion(registry["version"]),
    )
