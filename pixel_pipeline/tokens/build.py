"""Curated conversations to shards, all of it: tokenizer, encoding, packing, manifest, pointer."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
import hashlib

import pyarrow.compute as pc
import pyarrow.dataset as ds
from tokenizers import Tokenizer

from pixel_pipeline.code_version import code_version
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import fingerprint
from pixel_pipeline.lake.store import Bucket
from pixel_pipeline.tokens.chat_template import END_ID, PAD_ID, EncodedConversation, encode_conversations
from pixel_pipeline.tokens.packing import pack
from pixel_pipeline.tokens.shards import (
    ShardManifest,
    ShardRef,
    SplitManifest,
    TokenizerRef,
    write_shard,
)
from pixel_pipeline.tokens.tokenizer import serialize, tokenizer_digest, train_tokenizer

ROWS_PER_SHARD = 16_384
# More text hardly changes a vocabulary of thousands, and training time grows with it.
TOKENIZER_CHARACTERS = 8_000_000
CODE_VERSION = code_version("pixel_pipeline.tokens")


class NothingToTrainOnError(PixelError):
    """No curated conversation lies in the training split."""


@dataclass(frozen=True)
class TokenConfig:
    """How tokens are made. Lengths in tokens."""

    vocab_size: int = 4096
    sequence_length: int = 512
    seed: int = 7


def build_shards(
    curated: ds.Dataset,
    *,
    bucket: Bucket,
    dataset_version: str,
    config: TokenConfig,
    report: Callable[[str], None] = lambda message: None,
) -> str:
    """Write tokenizer, shards and manifest, then point `tokens/current.json` at them.

    Args:
        curated: Dataset of CURATED_SCHEMA.
        dataset_version: Version of the registry that describes it.
        report: Gets a line for each step of the work.

    Returns:
        The manifest's key.

    Raises:
        NothingToTrainOnError: the training split is empty.
    """
    # Sorted by content, as the registry's version is made: neither file layout nor names of raw objects reach the tokens.
    table = curated.to_table(columns=["content_hash", "family", "split", "messages"]).sort_by("content_hash")
    train = table.filter(pc.equal(table["split"], "train"))
    if train.num_rows == 0:
        raise NothingToTrainOnError(
            "No curated conversation is in the training split.",
            hint="Look at the quarantine and at the dropped counts of `pixel status`.",
        )

    def contents() -> Iterator[list[str]]:
        # The order of hashes is a random order, so the first conversations are a fair sample of all.
        seen = 0
        for batch in train.to_batches(max_chunksize=1024):
            texts = pc.struct_field(pc.list_flatten(batch["messages"]), "content")
            yield texts.to_pylist()
            seen += pc.sum(pc.utf8_length(texts)).as_py()
            if seen > TOKENIZER_CHARACTERS:
                return

    tokenizer = train_tokenizer(contents(), vocab_size=config.vocab_size)
    reference = _store_tokenizer(bucket, tokenizer)
    report(f"tokenizer {reference.digest}: {reference.vocab_size:,} tokens")

    # Named by all that determines the content: shards at a key never change under a running trainer.
    recipe = fingerprint(asdict(config), CODE_VERSION)[:8]
    folder = f"{keys.TOKENS}/{reference.digest}/{dataset_version}-{recipe}"
    encoded: dict[tuple[str, str], list[EncodedConversation]] = {}
    counts: dict[str, dict[str, int]] = {}
    for batch in table.to_batches(max_chunksize=1024):
        conversations = [
            [(m["role"], m["content"]) for m in turns] for turns in batch["messages"].to_pylist()
        ]
        rows = zip(
            batch["split"].to_pylist(),
            batch["family"].to_pylist(),
            encode_conversations(tokenizer, conversations),
            strict=True,
        )
        for split, family, conversation in rows:
            encoded.setdefault((split, family), []).append(conversation)
            count = counts.setdefault(family, {"conversations": 0, "tokens": 0})
            count["conversations"] += 1
            count["tokens"] += len(conversation.tokens)
    splits = {}
    for split in ("train", "validation", "test"):
        # Held-out rows hold one family each, so that loss by family needs no bookkeeping within a row.
        groups = [None] if split == "train" else sorted(family for name, family in encoded if name == split)
        shards: list[ShardRef] = []
        for group in groups:
            members = [
                c
                for (name, family), cs in sorted(encoded.items())
                if name == split and group in (None, family)
                for c in cs
            ]
            packed = pack(members, length=config.sequence_length, seed=config.seed)
            label = split if group is None else f"{split}-{group}"
            for number, start in enumerate(range(0, len(packed.tokens), ROWS_PER_SHARD)):
                piece = type(packed)(
                    tokens=packed.tokens[start : start + ROWS_PER_SHARD],
                    loss_mask=packed.loss_mask[start : start + ROWS_PER_SHARD],
                    segments=packed.segments[start : start + ROWS_PER_SHARD],
                )
                shards.append(
                    write_shard(bucket, f"{folder}/{label}-{number:05}.safetensors", piece, family=group)
                )
        splits[split] = SplitManifest.of(shards)
        report(f"{split}: {splits[split].tokens:,} tokens in {splits[split].rows:,} rows")
    manifest = ShardManifest(
        dataset_version=dataset_version,
        sequence_length=config.sequence_length,
        tokenizer=reference,
        splits=splits,
        families=dict(sorted(counts.items())),
    )
    manifest_key = f"{folder}/manifest.json"
    bucket.put_json(manifest_key, asdict(manifest))
    bucket.put_json(keys.CURRENT_TOKENS, {"manifest": manifest_key})
    return manifest_key


def _store_tokenizer(bucket: Bucket, tokenizer: Tokenizer) -> TokenizerRef:
    data = serialize(tokenizer)
    digest = tokenizer_digest(data)
    key = f"{keys.TOKENS}/{digest}/tokenizer.json"
    bucket.put(key, data)
    return TokenizerRef(
        key=key,
        sha256=hashlib.sha256(data).hexdigest(),
        digest=digest,
        vocab_size=tokenizer.get_vocab_size(),
        pad_id=PAD_ID,
        eos_id=END_ID,
    )
