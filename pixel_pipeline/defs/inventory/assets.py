"""`raw_inventory` lists the raw tiers and keeps the family partitions up to date."""

import dagster as dg
import pyarrow as pa

from pixel_pipeline.conversations.families.config import UNSORTED, FamilyConfig
from pixel_pipeline.defs import freshness, metadata
from pixel_pipeline.defs.columns import INVENTORY_COLUMNS, column_schema
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.partitions import sync_partitions
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.inventory import update_inventory
from pixel_pipeline.lake.raw import list_raw
from pixel_pipeline.lake.s3.listing import INVENTORY_SCHEMA
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.words import printable

SHOWN_KEYS = 20


class EmptyLakeError(PixelError):
    """The raw tiers have no object."""


@dg.asset(
    kinds={"s3", "deltalake"},
    owners=["team:data"],
    pool="lake-writer",
    group_name="lake",
    code_version="1",
    deps=["gdrive_sync"],
    metadata={
        "table": keys.INVENTORY,
        "dagster/column_schema": column_schema(INVENTORY_SCHEMA, INVENTORY_COLUMNS),
    },
    freshness_policy=freshness.INVENTORY,
    check_specs=[
        dg.AssetCheckSpec(
            "raw_keys",
            asset="raw_inventory",
            description="Every raw object has a key that readers can address. The others are named here and not converted.",
        )
    ],
    description=(
        "Every object of the raw tiers `gdrive/raw` and `acquired`: key, size, ETag, time. The table `_pixel/inventory_changes` records "
        "additions, changes and removals."
    ),
)
# Not `MaterializeResult[Any]`: with a check beside it, Dagster reads that annotation as several outputs.
def raw_inventory(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """List the raw tiers and keep the partitions of `conversations` equal to the families found there.

    Writes its own table, because the changes must be recorded after it. `S3ParquetIOManager` reads it.
    """
    with readable_failure(context):
        store = lake.open()
        listing = list_raw(store)
        if listing.objects.num_rows == 0:
            raise EmptyLakeError(
                f"There are no raw objects in {store.data.uri(keys.RAW)} or {store.data.uri(keys.ACQUIRED)}.",
                hint="Add some with `pixel ingest PATH` or `dagster job execute -j sync_raw`, or try samples with `make demo`.",
            )
        config = lake.families()
        families = _by_family(listing.objects, config)
        # Before the changes are recorded: a reader of the changes may run the partitions of these families at once.
        sync_partitions(context.instance, present=set(families))
        update = update_inventory(store, listing.objects, families=config.family_column)
    objects = listing.objects.num_rows
    total = sum(n_bytes for _, n_bytes in families.values())
    unsorted, _ = families.get(UNSORTED, (0, 0))
    if unsorted:
        context.log.warning(
            f"{unsorted:,} objects match no folder and no rule of families.yaml; they are in family `{UNSORTED}`"
        )
    changes = metadata.counts({kind: n for kind, n in update.changes.items() if n})
    context.log.info(
        f"{objects:,} raw objects, {metadata.size(total)}, {len(families)} families — "
        + ("unchanged" if update.unchanged else changes)
    )
    return dg.MaterializeResult(
        metadata={
            "uri": dg.MetadataValue.path(Table(store, keys.INVENTORY).uri),
            "changes table": dg.MetadataValue.path(Table(store, keys.INVENTORY_CHANGES).uri),
            "dagster/row_count": objects,
            **metadata.figures(
                {"objects": objects, "size (MB)": metadata.megabytes(total)}, reused=update.unchanged
            ),
            **update.changes,
            "families": metadata.table(
                [
                    {"family": family, "objects": n, "size": metadata.size(n_bytes)}
                    for family, (n, n_bytes) in families.items()
                ]
            ),
            "unsorted objects": unsorted,
            "folder markers": listing.markers,
            "version": metadata.digest(update.version),
            "table version": update.delta_version,
            "reused": update.unchanged,
        },
        data_version=dg.DataVersion(update.version),
        check_results=[_raw_keys(listing.unreadable)],
    )


def _by_family(objects: pa.Table, config: FamilyConfig) -> dict[str, tuple[int, int]]:
    """Objects and bytes of each family, sorted by name."""
    table = pa.table({"family": config.family_column(objects["key"]), "size": objects["size"]})
    sums = table.group_by("family").aggregate([("size", "count"), ("size", "sum")]).sort_by("family")
    return {row["family"]: (row["size_count"], row["size_sum"]) for row in sums.to_pylist()}


def _raw_keys(unreadable: list[str]) -> dg.AssetCheckResult:
    shown = [{"key": printable(key)} for key in unreadable[:SHOWN_KEYS]]
    return dg.AssetCheckResult(
        check_name="raw_keys",
        passed=not unreadable,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{len(unreadable):,} raw objects have keys that no reader can address: control characters, backslashes, or "
            "empty or dot segments. They are not converted. Rename them at their source and delete them from raw."
            if unreadable
            else "All keys are readable."
        ),
        metadata={"unreadable": len(unreadable), "keys": metadata.table(shown)},
    )
