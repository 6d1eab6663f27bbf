"""Curated conversations to packed token shards."""

from dataclasses import asdict
from typing import Any

import dagster as dg
import pyarrow.dataset as ds

from pixel_pipeline.defs import metadata
from pixel_pipeline.defs.assets.registry import dataset_registry
from pixel_pipeline.defs.resources import LakeResource, readable_failure
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.tokens.build import TokenConfig, build_shards
from pixel_pipeline.tokens.shards import ShardManifest


@dg.asset(
    kinds={"s3", "safetensors"},
    owners=["team:training"],
    pool="lake-writer",
    group_name="training",
    deps=[dataset_registry],
    description=(
        "Packed rows of tokens, of one family each: a byte-level BPE tokenizer trained on the corpus and ChatML, or a base model's "
        "tokenizer and chat template; loss on assistant turns only."
    ),
)
def token_shards(
    context: dg.AssetExecutionContext, curated: ds.Dataset, lake: LakeResource
) -> dg.MaterializeResult[Any]:
    """Tokenize and pack; shards become current when their manifest is whole."""
    with readable_failure(context):
        store = lake.open()
        dataset_version = store.data.get_json(keys.REGISTRY)["version"]
        settings = lake.settings()
        config = TokenConfig(
            seed=settings.seed, sequence_length=settings.sequence_length, base=settings.base_model
        )
        version = fingerprint(dataset_version, config.recipe(store))
        memo = Memo(store, "token_shards")
        remembered = memo.recall(version)
        reused = remembered is not None and store.data.exists(remembered["manifest"])
        if remembered is not None and reused:
            manifest_key = remembered["manifest"]
            # Another dataset may have been current in between.
            store.data.put_json(keys.CURRENT_TOKENS, {"manifest": manifest_key})
        else:
            manifest_key = build_shards(
                curated,
                lake=store,
                dataset_version=dataset_version,
                config=config,
                report=context.log.info,
            )
            memo.remember(version, {"manifest": manifest_key})
        manifest = ShardManifest.load(store.data, manifest_key)
    tokens = sum(split.tokens for split in manifest.splits.values())
    if reused:
        context.log.info(f"{tokens:,} tokens — unchanged")
    return dg.MaterializeResult(
        metadata={
            "uri": dg.MetadataValue.path(store.data.uri(manifest_key)),
            "tokenizer": dg.MetadataValue.path(store.data.uri(manifest.tokenizer.key)),
            "base_model": manifest.base or "none: a tokenizer of the corpus's own",
            "vocabulary": manifest.tokenizer.vocab_size,
            "sequence_length": manifest.sequence_length,
            "dataset_version": dataset_version,
            "tokens": tokens,
            "splits": metadata.table(
                [
                    {
                        "split": name,
                        "rows": split.rows,
                        "tokens": split.tokens,
                        "learned tokens": split.loss_tokens,
                        "filled": f"{split.tokens / max(1, split.rows * manifest.sequence_length):.1%}",
                        "size": metadata.size(sum(shard.bytes for shard in split.shards)),
                    }
                    for name, split in manifest.splits.items()
                ]
            ),
            "families": metadata.table(
                [{"family": family, **asdict(n)} for family, n in manifest.families.items()]
            ),
            "reused": reused,
        },
        data_version=dg.DataVersion(version),
    )
