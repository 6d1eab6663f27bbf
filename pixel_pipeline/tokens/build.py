"""Build token shards from curated conversations: tokenizer, encoding, packing, manifest, pointer."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pixel_pipeline.curation.splits import SPLITS
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.memo import fingerprint
from pixel_pipeline.registry.base_models import BaseManifest
from pixel_pipeline.tokens.base_tokenizer import BaseTokenizer, base_identity
from pixel_pipeline.tokens.chat_template import EncodedConversation
from pixel_pipeline.tokens.encoder import Encoder, base_encoder, own_encoder
from pixel_pipeline.tokens.packing import pack
from pixel_pipeline.tokens.shards import FamilyTokens, ShardManifest, ShardRef, SplitManifest, write_shard
from pixel_pipeline.versions import library_versions

ROWS_PER_SHARD = 16_384
# More text hardly changes a vocabulary of a few thousand, but takes longer to train on.
TOKENIZER_CHARACTERS = 8_000_000
RECIPE_VERSION = "tokens-1"
"""Increase it when the tokens of the same conversations change; the shards are then rebuilt."""


class NothingToTrainOnError(PixelError):
    """The training split is empty."""


@dataclass(frozen=True)
class TokenConfig:
    """Configuration of the shards. Lengths in tokens.

    Attributes:
        vocab_size: Vocabulary size of a tokenizer trained on the corpus.
        base: Name of the base model in the lake whose tokenizer and chat template are used; None trains a tokenizer.
    """

    vocab_size: int = 4096
    sequence_length: int = 512
    seed: int = 7
    base: str | None = None

    def recipe(self, lake: Lake) -> str:
        """Digest (32 hex digits) of everything that determines the tokens of given conversations.

        Raises:
            BaseModelNotFoundError, BaseModelCorruptError: see `BaseManifest.load`.
        """
        base = None if self.base is None else base_identity(BaseManifest.load(lake, self.base))
        return fingerprint(asdict(self), RECIPE_VERSION, base)


def build_shards(
    curated: ds.Dataset,
    *,
    lake: Lake,
    dataset_version: str,
    config: TokenConfig,
    current: bool = True,
    report: Callable[[str], None] = lambda message: None,
) -> str:
    """Write tokenizer, shards and manifest, then point `tokens/current.json` at them.

    Families are processed one at a time, so memory holds only one family's text and tokens.

    Args:
        curated: Dataset of CURATED_SCHEMA.
        dataset_version: Version of the registry that describes it.
        current: Whether to update the pointer.
        report: Receives a line for each step.

    Returns:
        The manifest's key.

    Raises:
        NothingToTrainOnError: the training split is empty.
        BaseModelError, ChatTemplateError: the base model cannot be used.
    """
    bucket = lake.data
    index = curated.to_table(columns=["family", "split"])
    if not pc.any(pc.equal(index["split"], "train")).as_py():
        raise NothingToTrainOnError(
            "No curated conversation is in the training split.",
            hint="Check the quarantine and the dropped counts of `pixel status`.",
        )
    base = None if config.base is None else BaseManifest.load(lake, config.base)
    if base is None:
        encoder = own_encoder(bucket, _sample(curated), vocab_size=config.vocab_size)
    else:
        encoder = base_encoder(bucket, BaseTokenizer.open(lake, base))
    reference = encoder.reference
    report(f"tokenizer {reference.digest}: {reference.vocab_size:,} tokens")

    # The key depends on everything that determines the content, so shards never change under a running trainer.
    folder = f"{keys.TOKENS}/{reference.digest}/{dataset_version}-{config.recipe(lake)[:8]}"
    shards: dict[str, list[ShardRef]] = {split: [] for split in SPLITS}
    families: dict[str, FamilyTokens] = {}
    for family in sorted(pc.unique(index["family"]).to_pylist()):
        # Sorted by content, so that neither file layout nor raw object names affect the tokens.
        table = curated.to_table(
            columns=["content_hash", "category", "split", "messages"], filter=ds.field("family") == family
        ).sort_by("content_hash")
        encoded = _encode(table, encoder)
        families[family] = FamilyTokens(
            category=table["category"][0].as_py(),
            conversations=table.num_rows,
            tokens=sum(len(item.tokens) for members in encoded.values() for item in members),
        )
        # Each row holds one family, so that weighting, routing and scoring by family need no bookkeeping within a row.
        for split, members in sorted(encoded.items()):
            rows = pack(members, length=config.sequence_length, pad_id=reference.pad_id, seed=config.seed)
            for number, piece in enumerate(rows.split(ROWS_PER_SHARD)):
                key = f"{folder}/{split}-{family}-{number:05}.safetensors"
                shards[split].append(write_shard(bucket, key, piece, family=family))
    splits = {split: SplitManifest.of(shards[split]) for split in SPLITS}
    for split, summary in splits.items():
        report(f"{split}: {summary.tokens:,} tokens in {summary.rows:,} rows")
    manifest = ShardManifest(
        dataset_version=dataset_version,
        sequence_length=config.sequence_length,
        tokenizer=reference,
        splits=splits,
        families=families,
        base=config.base,
        base_digest=None if base is None else base.digest,
        chat_template=encoder.chat_template,
        libraries=library_versions("tokenizers", "jinja2"),
    )
    manifest_key = f"{folder}/manifest.json"
    bucket.put_json(manifest_key, asdict(manifest))
    if current:
        bucket.put_json(keys.CURRENT_TOKENS, {"manifest": manifest_key})
    return manifest_key


def _sample(curated: ds.Dataset) -> Iterator[list[str]]:
    """Yield the contents of the first training conversations in the order of their hashes, which is a random sample."""
    training = ds.field("split") == "train"
    sizes = [
        pa.table({"content_hash": batch["content_hash"], "characters": _characters(batch["messages"])})
        for batch in curated.to_batches(columns=["content_hash", "messages"], filter=training)
    ]
    order = pa.concat_tables(sizes).sort_by("content_hash")
    total = pc.cumulative_sum(order["characters"])
    end = pc.index(pc.greater(total, TOKENIZER_CHARACTERS), True).as_py()
    last = order["content_hash"][end if end >= 0 else -1]
    sample = curated.to_table(
        columns=["content_hash", "messages"], filter=training & (ds.field("content_hash") <= last)
    ).sort_by("content_hash")
    for batch in sample.to_batches(max_chunksize=1024):
        yield pc.struct_field(pc.list_flatten(batch["messages"]), "content").to_pylist()


def _characters(messages: pa.ListArray) -> pa.Array:
    """Count the Unicode code points of each conversation, as int64."""
    lengths = pc.utf8_length(pc.struct_field(pc.list_flatten(messages), "content"))
    sums = np.bincount(pc.list_parent_indices(messages), weights=lengths, minlength=len(messages))
    return pa.array(sums.astype(np.int64))


def _encode(table: pa.Table, encoder: Encoder) -> dict[str, list[EncodedConversation]]:
    """Encode conversations by split, in the order of the table."""
    encoded: dict[str, list[EncodedConversation]] = {}
    for batch in table.to_batches(max_chunksize=1024):
        conversations = [
            [(m["role"], m["content"]) for m in turns] for turns in batch["messages"].to_pylist()
        ]
        splits = batch["split"].to_pylist()
        for split, conversation in zip(splits, encoder.encode(conversations), strict=True):
            encoded.setdefault(split, []).append(conversation)
    return encoded
