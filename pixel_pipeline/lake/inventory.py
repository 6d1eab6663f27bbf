"""What lies in the raw tiers, as a table."""

import pyarrow as pa

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import fingerprint
from pixel_pipeline.lake.store import Lake

INVENTORY_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""One row an object: full key, size in bytes, ETag without quotes, time of the last write. Sorted by key."""


def list_raw(lake: Lake) -> pa.Table:
    """List `gdrive/raw` and `acquired`. Returns a table of INVENTORY_SCHEMA, sorted by key."""
    objects = sorted(
        (item for tier in keys.RAW_TIERS for item in lake.data.list(tier)), key=lambda item: item.key
    )
    return pa.table(
        {
            "key": [item.key for item in objects],
            "size": [item.size for item in objects],
            "etag": [item.etag for item in objects],
            "last_modified": [item.last_modified for item in objects],
        },
        schema=INVENTORY_SCHEMA,
    )


def inventory_version(inventory: pa.Table) -> str:
    """Digest of keys, sizes and ETags. A copy that only touches times leaves it as it is."""
    return fingerprint(*(inventory[name].to_pylist() for name in ("key", "size", "etag")))
