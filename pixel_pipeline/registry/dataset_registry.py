"""`config/dataset_registry.json`: each dataset of the lake, by category, with its counts and the versions it comes from.

The file is a pure function of the lake's content: no time stamps, sorted keys. Its `version` names the curated state that
tokens and checkpoints are made of.
"""

from dataclasses import asdict, dataclass
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
"""Raise it when the same curated rows are described otherwise."""


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset.

    Attributes:
        path: URI of its canonical table.
        conversations: Curated conversations, by split.
        turns: Messages in them.
        characters: Unicode code points in them.
        content_digest: Digest over the turns of its curated conversations, to the letter, order-free.
    """

    category: str
    dataset: str
    family: str
    path: str
    conversations: dict[str, int]
    turns: int
    characters: int
    content_digest: str


def build(curated: ds.Dataset, *, families: dict[str, FamilyRule], data: Bucket) -> dict[str, Any]:
    """The registry as plain JSON.

    Args:
        curated: Dataset of CURATED_SCHEMA.
        families: Rules of the families that may occur in it.
        data: The data bucket, for URIs.
    """
    table = curated.to_table(
        columns={
            "family": ds.field("family"),
            "split": ds.field("split"),
            "messages": ds.field("messages"),
        }
    )
    entries = []
    for family in sorted(pc.unique(table["family"]).to_pylist()):
        rule = families[family]
        rows = table.filter(pc.equal(table["family"], family))
        # Lists are flattened rather than looked into row by row: counting makes no Python objects.
        contents = pc.struct_field(pc.list_flatten(rows["messages"]), "content")
        splits = rows["split"].value_counts().to_pylist()
        entries.append(
            DatasetEntry(
                category=rule.category,
                dataset=rule.dataset,
                family=family,
                path=data.uri(keys.conversations_table(category=rule.category, dataset=rule.dataset)),
                conversations={item["values"]: item["counts"] for item in splits},
                turns=len(contents),
                characters=pc.sum(pc.utf8_length(contents)).as_py() or 0,
                content_digest=_content_digest(rows),
            )
        )
    datasets = [asdict(entry) for entry in entries]
    return {
        "format": FORMAT,
        "version": fingerprint(FORMAT, datasets)[:16],
        "curated": data.uri(keys.CURATED),
        "categories": sorted({entry.category for entry in entries}),
        "conversations": sum(sum(entry.conversations.values()) for entry in entries),
        "datasets": datasets,
    }


def _content_digest(rows: pa.Table) -> str:
    # Not from `content_hash`, which is blind to the composition of letters: tokens are not, and they are named by the version.
    digests = []
    for batch in rows.select(["split", "messages"]).to_batches(max_chunksize=1024):
        for conversation in zip(batch["split"].to_pylist(), batch["messages"].to_pylist(), strict=True):
            digests.append(xxhash.xxh3_128_hexdigest(orjson.dumps(conversation)))
    return fingerprint(*sorted(digests))
