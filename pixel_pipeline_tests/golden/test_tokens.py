"""The token recipe: tokens, masks and segments of packed rows."""

import hashlib

import pyarrow as pa
import pyarrow.dataset as ds
from safetensors.numpy import load

from pixel_pipeline.conversations.families.config import FamilyRule
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry import dataset_registry
from pixel_pipeline.tokens import build
from pixel_pipeline.tokens.build import TokenConfig, build_shards
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline_tests.curation.rows import curated
from pixel_pipeline_tests.golden import golden
from pixel_pipeline_tests.tokens.base_files import put_base


def _shards(lake: Lake, table: pa.Table, config: TokenConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Digest of each shard's arrays by the end of its key, and the libraries that made them."""
    key = build_shards(ds.dataset(table), lake=lake, dataset_version="v1", config=config)
    manifest = ShardManifest.load(lake.data, key)
    digests = {}
    for split in manifest.splits.values():
        for shard in split.shards:
            arrays = load(lake.data.get(shard.key))
            content = b"".join(arrays[name].tobytes() for name in sorted(arrays))
            digests[shard.key.rsplit("/", 1)[-1]] = hashlib.sha256(content).hexdigest()[:16]
    return digests, manifest.libraries


def test_conversations_become_the_recorded_tokens(lake: Lake) -> None:
    table = curated(90, families=("calm", "sleep", "work"))
    own, libraries = _shards(lake, table, TokenConfig(vocab_size=320, sequence_length=64))
    put_base(lake, name="tiny", kind="llama3")
    based, _ = _shards(lake, table, TokenConfig(sequence_length=64, base="tiny"))
    golden.check(
        build.RECIPE_VERSION,
        {
            **{f"own {name}": found for name, found in own.items()},
            **{f"base {name}": found for name, found in based.items()},
        },
        libraries=libraries,
    )


def test_the_registry_describes_them_as_recorded(lake: Lake) -> None:
    rules = {name: FamilyRule(category="c", family=name, dataset=name) for name in ("calm", "sleep")}
    content = dataset_registry.build(ds.dataset(curated(120)), families=rules, data=lake.data)
    # Both name the bucket.
    del content["version"], content["curated"]
    for entry in content["datasets"]:
        del entry["path"]
    golden.check(
        dataset_registry.RECIPE_VERSION, {name: golden.digest(value) for name, value in content.items()}
    )
