"""The raw tiers: `gdrive/raw` and `acquired`."""

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.control import control_client, controlled
from pixel_pipeline.lake.s3.listing import Listing, list_prefixes


def list_raw(lake: Lake) -> Listing:
    """List the raw tiers.

    Warning:
        An object with content whose key ends in a slash is listed without the slash. Reading it then fails with
        ObjectNotFoundError. Neither rclone nor the S3 consoles write such keys.
    """
    return list_prefixes(lake.data, keys.RAW_TIERS)


def is_empty(lake: Lake) -> bool:
    """True while the raw tiers hold no object. Lists at most one key of each tier, whatever its characters."""
    client = control_client(lake.target)
    with controlled(f"list {lake.data.uri()}", target=lake.target):
        return not any(
            client.list_objects_v2(Bucket=lake.data.name, Prefix=f"{tier}/", MaxKeys=1).get("Contents")
            for tier in keys.RAW_TIERS
        )
