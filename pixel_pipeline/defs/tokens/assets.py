"""`token_shards` tokenizes and packs the curated conversations."""

from typing import Any

import dagster as dg
import pyarrow.dataset as ds

from pixel_pipeline.defs import freshness, metadata
from pixel_pipeline.defs.failures import readable_failure
from pixel_pipeline.defs.resources import LakeResource
from pixel_pipeline.defs.tokens.config import TokenOptions
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import Memo, fingerprint
from pixel_pipeline.tokens.build import RECIPE_VERSION, TokenConfig, build_shards
from pixel_pipeline.tokens.shards import ShardManifest


@dg.asset(
    kinds={"s3", "safetensors"},
    owners=["team:training"],
    pool="lake-writer",
    group_name="training",
    code_version=RECIPE_VERSION,
    deps=["dataset_registry"],
    freshness_policy=freshness.MODEL,
    description=(
        "Packed rows of tokens, each of one family, with a loss mask for assistant turns. The tokenizer is a byte-level BPE trained on the "
        "corpus, with ChatML, or that of a base model, with its chat template."
    ),
)
def token_shards(
    context: dg.AssetExecutionContext, curated: ds.Dataset, lake: LakeResource, config: TokenOptions
) -> dg.MaterializeResult[Any]:
    """Tokenize and pack. The shards become current once their manifest is complete."""
    with readable_failure(context):
        store = lake.open()
        dataset_version = store.data.get_json(keys.REGISTRY)["version"]
        settings = config.applied(lake.settings())
        recipe = TokenConfig(
            seed=settings.seed, sequence_length=settings.sequence_length, base=settings.base_model
        )
        version = fingerprint(dataset_version, recipe.recipe(store))
        memo = Memo(store, "token_shards")
        known = memo.recall(version)
        reused = known is not None and store.data.exists(known["manifest"])
        if known is not None and reused:
            manifest_key = known["manifest"]
            # Shards of another configuration may have been current in between.
            store.data.put_json(keys.CURRENT_TOKENS, {"manifest": manifest_key})
        else:
            manifest_key = build_shards(
                curated,
                lake=store,
                dataset_version=dataset_version,
                config=recipe,
                report=context.log.info,
            )
            memo.remember(version, {"manifest": manifest_key})
        manifest = ShardManifest.load(store.data, manifest_key)
    if reused:
        tokens = sum(split.tokens for split in manifest.splits.values())
        context.log.info(f"{tokens:,} tokens — unchanged")
    return dg.MaterializeResult(
        metadata={
            "uri": dg.MetadataValue.path(store.data.uri(manifest_key)),
            "tokenizer": dg.MetadataValue.path(store.data.uri(manifest.tokenizer.key)),
            **_facts(manifest, reused=reused),
        },
        data_version=dg.DataVersion(version),
    )


def _facts(manifest: ShardManifest, *, reused: bool) -> dict[str, Any]:
    splits = manifest.splits
    return {
        "base model": manifest.base or "none: a tokenizer trained on the corpus",
        "vocabulary": manifest.tokenizer.vocab_size,
        "sequence length": manifest.sequence_length,
        "dataset version": manifest.dataset_version,
        **metadata.figures(
            {
                "tokens": sum(split.tokens for split in splits.values()),
                "learned tokens": sum(split.loss_tokens for split in splits.values()),
                "size (MB)": metadata.megabytes(
                    sum(shard.bytes for split in splits.values() for shard in split.shards)
                ),
            },
            reused=reused,
        ),
        "splits": metadata.table(
            [
                {
                    "split": name,
                    "rows": split.rows,
                    "tokens": split.tokens,
                    "filled": f"{split.tokens / max(1, split.rows * manifest.sequence_length):.1%}",
                }
                for name, split in splits.items()
            ]
        ),
        "families": metadata.table(
            [
                {"family": name, "conversations": family.conversations, "tokens": family.tokens}
                for name, family in manifest.families.items()
            ]
        ),
        "reused": reused,
    }
