"""Finds the records of promotions in the checkpoint bucket. Torch-free."""

import re

from pixel_pipeline.lake.s3.bucket import Bucket

PROMOTIONS = "promoted"
COPY = "promoted.json"
_KEY = re.compile(rf"{PROMOTIONS}/\d{{6,}}\.json")


def newest_promotion(bucket: Bucket) -> str | None:
    """Key of the newest record; None before the first."""
    keys = [item.key for item in bucket.list(PROMOTIONS) if _KEY.fullmatch(item.key)]
    return max(keys, key=lambda key: (len(key), key), default=None)


def promoted_step(bucket: Bucket) -> tuple[str, int] | None:
    """(run, step) of the promoted checkpoint; None before the first promotion."""
    key = newest_promotion(bucket)
    if key is None:
        return None
    content = bucket.get_json(key)
    return str(content["run"]), int(content["step"])
