"""`config/dataset_registry.json`: the lake's datasets by category, with counts and content digests.

A pure function of the lake's content: no timestamps, sorted keys. Its `version` identifies the curated state behind tokens and
checkpoints.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import xxhash

from pixel_pipeline.conversations.families.config import FamilyRule
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import fingerprint
from pixel_pipeline.lake.s3.bucket import Bucket

FORMAT = "pixel-dataset-registry/1"
RECIPE_VERSION = "registry-1"
"""Increase it when the registry of the same curated rows changes."""


def build(curated: ds.Dataset, *, families: dict[str, FamilyRule], data: Bucket) -> dict[str, Any]:
    """Build the registry as plain JSON.

    Each dataset has the URI of its canonical table (`path`), curated conversations by split, their messages (`turns`) and Unicode
    code points (`characters`), and a digest of their exact turns and splits.

    Args:
        curated: Dataset of CURATED_SCHEMA.
        families: Rules of the families that may occur in it.
        data: The data bucket, for URIs.
    """
    table = curated.to_table(columns=["family", "split", "messages"])
    datasets: list[dict[str, Any]] = []
    for family in sorted(pc.unique(table["family"]).to_pylist()):
        rule = families[family]
        rows = table.filter(pc.equal(table["family"], family))
        # Count in Arrow, without creating Python objects.
        contents = pc.struct_field(pc.list_flatten(rows["messages"]), "content")
        splits = rows["split"].value_counts().to_pylist()
        datasets.append(
            {
                "category": rule.category,
                "dataset": rule.dataset,
                "family": family,
                "path": data.uri(keys.conversations_table(category=rule.category, dataset=rule.dataset)),
                "conversations": {item["values"]: item["counts"] for item in splits},
                "turns": len(contents),
                "characters": pc.sum(pc.utf8_length(contents)).as_py() or 0,
                "content_digest": content_digest(rows.to_batches(max_chunksize=1024), ["split", "messages"]),
            }
        )
    return {
        "format": FORMAT,
        "version": fingerprint(FORMAT, datasets)[:16],
        "curated": data.uri(keys.CURATED),
        "categories": sorted({entry["category"] for entry in datasets}),
        "conversations": sum(sum(entry["conversations"].values()) for entry in datasets),
        "datasets": datasets,
    }


def content_digest(batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> str:
    """Digest (32 hex digits) of the columns' exact values in any order of rows.

    Unlike `content_hash`, it does not ignore Unicode composition: tokens depend on it, and their keys contain this digest.
    """
    digests = []
    for batch in batches:
        for row in zip(*(batch[name].to_pylist() for name in columns), strict=True):
            digests.append(xxhash.xxh3_128_hexdigest(orjson.dumps(row)))
    return fingerprint(*sorted(digests))
