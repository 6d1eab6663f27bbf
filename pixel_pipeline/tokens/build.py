"""Curated conversations to shards, all of it: tokenizer, encoding, packing, manifest, pointer."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
import hashlib

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from tokenizers import Tokenizer

from pixel_pipeline.code_version import code_version
from pixel_pipeline.curation.splits import SPLITS
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.memo import fingerprint
from pixel_pipeline.lake.store import Bucket
from pixel_pipeline.tokens.chat_template import END_ID, PAD_ID, EncodedConversation, encode_conversations
from pixel_pipeline.tokens.packing import PackedRows, pack
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

    tokenizer = train_tokenizer(_contents(train), vocab_size=config.vocab_size)
    reference = _store_tokenizer(bucket, tokenizer)
    report(f"tokenizer {reference.digest}: {reference.vocab_size:,} tokens")

    # Named by all that determines the content: shards at a key never change under a running trainer.
    recipe = fingerprint(asdict(config), CODE_VERSION)[:8]
    folder = f"{keys.TOKENS}/{reference.digest}/{dataset_version}-{recipe}"
    encoded = _encode(table, tokenizer)
    splits = {}
    for split in SPLITS:
        by_family = {family: members for (name, family), members in sorted(encoded.items()) if name == split}
        # Held-out rows hold one family each, so that loss by family needs no bookkeeping within a row.
        groups = (
            {None: [c for members in by_family.values() for c in members]} if split == "train" else by_family
        )
        shards = [
            shard
            for family, members in groups.items()
            for shard in _write_group(
                bucket,
                f"{folder}/{split if family is None else f'{split}-{family}'}",
                members,
                family=family,
                config=config,
            )
        ]
        splits[split] = SplitManifest.of(shards)
        report(f"{split}: {splits[split].tokens:,} tokens in {splits[split].rows:,} rows")
    manifest = ShardManifest(
        dataset_version=dataset_version,
        sequence_length=config.sequence_length,
        tokenizer=reference,
        splits=splits,
        families=_count_by_family(encoded),
    )
    manifest_key = f"{folder}/manifest.json"
    bucket.put_json(manifest_key, asdict(manifest))
    bucket.put_json(keys.CURRENT_TOKENS, {"manifest": manifest_key})
    return manifest_key


def _contents(train: pa.Table) -> Iterator[list[str]]:
    # The order of hashes is a random order, so the first conversations are a fair sample of all.
    seen = 0
    for batch in train.to_batches(max_chunksize=1024):
        texts = pc.struct_field(pc.list_flatten(batch["messages"]), "content")
        yield texts.to_pylist()
        seen += pc.sum(pc.utf8_length(texts)).as_py()
        if seen > TOKENIZER_CHARACTERS:
            return


def _encode(table: pa.Table, tokenizer: Tokenizer) -> dict[tuple[str, str], list[EncodedConversation]]:
    """Conversations by (split, family), in the order of the table."""
    encoded: dict[tuple[str, str], list[EncodedConversation]] = {}
    for batch in table.to_batches(max_chunksize=1024):
        conversations = [
            [(m["role"], m["content"]) for m in turns] for turns in batch["messages"].to_pylist()
        ]
        places = zip(batch["split"].to_pylist(), batch["family"].to_pylist(), strict=True)
        for place, conversation in zip(places, encode_conversations(tokenizer, conversations), strict=True):
            encoded.setdefault(place, []).append(conversation)
    return encoded


def _count_by_family(encoded: dict[tuple[str, str], list[EncodedConversation]]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for (_, family), members in sorted(encoded.items()):
        count = counts.setdefault(family, {"conversations": 0, "tokens": 0})
        count["conversations"] += len(members)
        count["tokens"] += sum(len(conversation.tokens) for conversation in members)
    return dict(sorted(counts.items()))


def _write_group(
    bucket: Bucket, stem: str, members: list[EncodedConversation], *, family: str | None, config: TokenConfig
) -> Iterator[ShardRef]:
    packed = pack(members, length=config.sequence_length, seed=config.seed)
    for number, start in enumerate(range(0, len(packed.tokens), ROWS_PER_SHARD)):
        rows = slice(start, start + ROWS_PER_SHARD)
        piece = PackedRows(
            tokens=packed.tokens[rows], loss_mask=packed.loss_mask[rows], segments=packed.segments[rows]
        )
        yield write_shard(bucket, f"{stem}-{number:05}.safetensors", piece, family=family)


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
