"""Find or make the token shards of a named dataset: shards, a table in the lake, or local files. Torch-free."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from pixel_pipeline.conversations.convert.conversion import convert_object
from pixel_pipeline.conversations.families.config import FamilyConfig
from pixel_pipeline.conversations.model.schema import CONVERSATION_SCHEMA
from pixel_pipeline.conversations.model.source import SourceObject
from pixel_pipeline.curation.curate import curated_batches, decide
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.lake.tables.table import Table
from pixel_pipeline.registry.base_models import is_path
from pixel_pipeline.registry.dataset_registry import content_digest
from pixel_pipeline.settings import Settings
from pixel_pipeline.tokens.build import TokenConfig, build_shards
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key

Report = Callable[[str], None]


class TrainingSourceError(PixelError):
    """A dataset named for training does not exist or contains no conversations."""


def find_shards(
    lake: Lake,
    settings: Settings,
    *,
    base: str | None,
    dataset_path: Path | None = None,
    s3_path: str | None = None,
    sequence_length: int | None = None,
    report: Report,
) -> str:
    """Return the manifest key of the shards to train on; build them if necessary.

    Args:
        base: Base model that the shards are for; None for PIXEL_BASE_MODEL.
        dataset_path: A local file or folder in any supported format. It is converted and curated like the lake's data; only the
            shards are stored in the lake.
        s3_path: URI, or key in the data bucket, of a shard manifest or a table of conversations.
        sequence_length: Tokens per row, if the current shards must have this length; new shards take it from the settings.

    Raises:
        TrainingSourceError: the dataset does not exist or contains no conversations.
        TokenShardsNotFoundError: no dataset is named, and the lake has no shards.
        NothingToTrainOnError, BaseModelError: see their classes.
    """
    base = base or settings.base_model
    if dataset_path is not None:
        curated = _curated(_local_conversations(dataset_path, settings, report=report), report=report)
        return _shards(lake, settings, curated, base=base, report=report)
    if s3_path is not None:
        key = _key(lake, s3_path)
        if key.endswith(".json"):
            return key
        return _shards(lake, settings, _lake_table(lake, key, report=report), base=base, report=report)
    key = current_manifest_key(lake.data)
    current = ShardManifest.load(lake.data, key)
    differences = []
    if base is not None and not is_path(base) and base != current.base:
        differences.append(f"the base model {base}")
    if sequence_length is not None and sequence_length != current.sequence_length:
        differences.append(f"{sequence_length:,} tokens per row")
    if not differences or not Table(lake, keys.CURATED).exists():
        return key
    report(
        f"the current token shards are not for {' and '.join(differences)}: building them from {lake.data.uri(keys.CURATED)}"
    )
    return _shards(
        lake, settings, Table(lake, keys.CURATED).dataset(), base=base or current.base, report=report
    )


def _key(lake: Lake, path: str) -> str:
    key = path.strip().removeprefix(lake.data.uri()).strip("/")
    if "://" in key:
        raise TrainingSourceError(
            f"{path} is not in the data bucket {lake.data.uri()}.",
            hint="Give a URI in that bucket; `pixel ingest` copies files into it.",
        )
    if key.endswith(".json") and not lake.data.exists(key):
        raise TrainingSourceError(
            f"There is no shard manifest at {lake.data.uri(key)}.",
            hint=f"Shards are stored under {lake.data.uri(keys.TOKENS)}/; without --s3-path, the current ones are used.",
        )
    return key


def _lake_table(lake: Lake, key: str, *, report: Report) -> ds.Dataset:
    table = Table(lake, key)
    if not table.exists():
        raise TrainingSourceError(
            f"{lake.data.uri(key)} is neither a shard manifest (…/manifest.json) nor a table.",
            hint=f"Name a table of conversations, such as {lake.data.uri(keys.CURATED)} or one under {lake.data.uri(keys.PROCESSED)}/.",
        )
    dataset = table.dataset()
    missing = sorted({*CONVERSATION_SCHEMA.names} - {*dataset.schema.names})
    if missing:
        raise TrainingSourceError(
            f"The table {lake.data.uri(key)} contains no conversations: it lacks {', '.join(missing)}.",
            hint=f"Name a table such as {lake.data.uri(keys.CURATED)}.",
        )
    return dataset if "split" in dataset.schema.names else _curated(dataset, report=report)


def _local_conversations(path: Path, settings: Settings, *, report: Report) -> ds.Dataset:
    """Convert local files, with the families that `pixel ingest` would assign."""
    root = path.expanduser().resolve()
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    if not files:
        raise TrainingSourceError(f"There is nothing at {path}.", hint="Give the path of a folder or a file.")
    families = FamilyConfig.load(settings.families_file)
    batches: list[pa.RecordBatch] = []
    quarantined = 0
    for file in files:
        key = "/".join([keys.ACQUIRED, root.name, *file.relative_to(root).parts])
        rule = families.classify(key)
        source = SourceObject(
            bucket="local",
            key=key,
            etag="",
            size=file.stat().st_size,
            family=rule.family,
            category=rule.category,
            dataset=rule.dataset,
            options=rule.options,
        )
        with file.open("rb") as stream:
            conversion = convert_object(source, stream)
            batches += [batch.conversations for batch in conversion]
        quarantined += conversion.ledger.quarantined
    table = pa.Table.from_batches(batches, schema=CONVERSATION_SCHEMA)
    report(
        f"{path}: {table.num_rows:,} conversations in {len(files):,} files"
        f"{f'; {quarantined:,} records cannot be converted (`pixel detect FILE` explains why)' if quarantined else ''}"
    )
    if not table.num_rows:
        raise TrainingSourceError(
            f"{path} contains no conversations.",
            hint="`pixel detect FILE` shows a file's detected format, and why.",
        )
    return ds.InMemoryDataset(table)


def _curated(conversations: ds.Dataset, *, report: Report) -> ds.Dataset:
    """Drop duplicates and assign splits like the lake's own curation."""
    decision = decide(conversations)
    table = curated_batches(conversations, decision).read_all()
    if decision.dropped.num_rows:
        report(f"{decision.dropped.num_rows:,} conversations dropped as duplicates or preference pairs")
    return ds.InMemoryDataset(table)


def _shards(lake: Lake, settings: Settings, curated: ds.Dataset, *, base: str | None, report: Report) -> str:
    if base is not None and is_path(base):
        raise TrainingSourceError(
            f"Token shards cannot be built for a base model in a local folder ({base}).",
            hint="Add it to the lake with `pixel base add FOLDER`, and give its name.",
        )
    config = TokenConfig(seed=settings.seed, sequence_length=settings.sequence_length, base=base)
    columns = ["family", "category", "split", "messages"]
    version = content_digest(curated.to_batches(columns=columns, batch_size=1024), columns)[:16]
    memo = Memo(lake, f"shards/{version}-{fingerprint(config.recipe(lake))[:8]}")
    known = memo.recall(version)
    if known is not None and lake.data.exists(known["manifest"]):
        return str(known["manifest"])
    manifest_key = build_shards(
        curated, lake=lake, dataset_version=version, config=config, current=False, report=report
    )
    memo.remember(version, {"manifest": manifest_key})
    return manifest_key
