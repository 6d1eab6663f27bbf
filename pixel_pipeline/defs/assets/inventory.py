"""The raw tiers, listed."""

from typing import Any

import dagster as dg
import pyarrow.compute as pc

from pixel_pipeline.conversations.families import UNSORTED
from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.assets.sync import gdrive_sync
from pixel_pipeline.defs.partitions import FAMILIES
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.inventory import inventory_version, list_raw
from pixel_pipeline.lake.tables import Table


class EmptyLakeError(PixelError):
    """No raw object lies in the lake."""


@dg.asset(
    kinds={"s3", "parquet"},
    owners=["team:data"],
    group_name="lake",
    deps=[gdrive_sync],
    metadata={"table": keys.INVENTORY},
    description="Every object of the raw tiers `gdrive/raw` and `acquired`: key, size, ETag, time.",
)
def raw_inventory(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """List the raw tiers, and keep the partitions of `conversations` in step with the families found there."""
    with readable_failure(context):
        store = lake.open()
        inventory = list_raw(store)
        if inventory.num_rows == 0:
            raise EmptyLakeError(
                f"No raw object lies in {store.data.uri(keys.RAW)} or {store.data.uri(keys.ACQUIRED)}.",
                hint="Copy some in: `pixel ingest PATH`, `dagster job execute -j sync_raw`, or `make demo` for samples.",
            )
        config = lake.families()
        families = [config.classify(key).family for key in inventory["key"].to_pylist()]
        version = inventory_version(inventory)
        unchanged = Table(store, keys.INVENTORY).note().get("pixel.version") == version
    _update_partitions(context, present=set(families))
    unsorted = families.count(UNSORTED)
    if unsorted:
        context.log.warning(
            f"{unsorted:,} objects match no folder and no rule of families.yaml; they are in family `{UNSORTED}`"
        )
    total = pc.sum(inventory["size"]).as_py()
    context.log.info(
        f"{inventory.num_rows:,} raw objects, {metadata.size(total)}, {len(set(families))} families"
        + (" — unchanged" if unchanged else "")
    )
    sizes: dict[str, list[int]] = {}
    for family, n_bytes in zip(families, inventory["size"].to_pylist(), strict=True):
        sizes.setdefault(family, []).append(n_bytes)
    facts = {
        "uri": dg.MetadataValue.path(Table(store, keys.INVENTORY).uri),
        "objects": inventory.num_rows,
        "bytes": total,
        "families": metadata.table(
            [
                {"family": f, "objects": len(s), "size": metadata.size(sum(s))}
                for f, s in sorted(sizes.items())
            ]
        ),
        "unsorted_objects": unsorted,
        "version": version,
        "reused": unchanged,
    }
    if unchanged:
        return dg.MaterializeResult(metadata=facts, data_version=dg.DataVersion(version))
    return dg.MaterializeResult(value=inventory, metadata=facts, data_version=dg.DataVersion(version))


def _update_partitions(context: dg.AssetExecutionContext, *, present: set[str]) -> None:
    known = set(context.instance.get_dynamic_partitions(FAMILIES.name or ""))
    context.instance.add_dynamic_partitions(FAMILIES.name or "", sorted(present - known))
    for family in sorted(known - present):
        context.instance.delete_dynamic_partition(FAMILIES.name or "", family)
