"""Token shards in the lake: their format, their manifest, and the pointer to the current ones."""

from dataclasses import dataclass, field
import hashlib
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.tokens.packing import PackedRows

FORMAT = "pixel-token-shards/2"


class TokenShardsNotFoundError(PixelError):
    """The lake holds no token shards yet."""


class CorruptShardError(PixelError):
    """A shard's bytes are not those that its manifest promises."""


@dataclass(frozen=True)
class TokenizerRef:
    """The tokenizer of a set of shards. `digest` names it in keys; `eos_id` ends an answer; `pad_id` may be the same."""

    key: str
    sha256: str
    digest: str
    vocab_size: int
    pad_id: int
    eos_id: int


@dataclass(frozen=True)
class ShardRef:
    """One shard: a safetensors file with `tokens` int32, `loss_mask` uint8 and `segments` int16, each [rows, L].

    All rows are of one `family`; `bytes` is the object's size.
    """

    key: str
    family: str
    rows: int
    tokens: int
    loss_tokens: int
    sha256: str
    bytes: int


@dataclass(frozen=True)
class SplitManifest:
    """Shards of one split, and their sums."""

    rows: int
    tokens: int
    loss_tokens: int
    shards: list[ShardRef]

    @classmethod
    def of(cls, shards: list[ShardRef]) -> Self:
        """Sum up shards."""
        return cls(
            rows=sum(shard.rows for shard in shards),
            tokens=sum(shard.tokens for shard in shards),
            loss_tokens=sum(shard.loss_tokens for shard in shards),
            shards=shards,
        )


@dataclass(frozen=True)
class FamilyTokens:
    """What a family gave, over all splits."""

    category: str
    conversations: int
    tokens: int


@dataclass(frozen=True)
class ShardManifest:
    """Everything a trainer needs to know. Written last: shards without a manifest are not there.

    Attributes:
        base: Base model whose tokenizer and template were used; None for a tokenizer of the corpus's own.
        base_digest: That model's digest.
        chat_template: `chatml`, or `base` for the base model's own.
        libraries: Versions of the libraries that made the tokens.
    """

    dataset_version: str
    sequence_length: int
    tokenizer: TokenizerRef
    splits: dict[str, SplitManifest]
    families: dict[str, FamilyTokens]
    base: str | None = None
    base_digest: str | None = None
    chat_template: str = "chatml"
    libraries: dict[str, str] = field(default_factory=dict)
    format: str = FORMAT

    @classmethod
    def load(cls, bucket: Bucket, key: str) -> Self:
        """Read a manifest. Raises PixelError where it is of another format, or lacks fields."""
        content: dict[str, Any] = bucket.get_json(key)
        if content.get("format") != FORMAT:
            raise PixelError(
                f"{bucket.uri(key)} is no {FORMAT} manifest.", hint="Materialize token_shards again."
            )
        try:
            return cls(
                dataset_version=content["dataset_version"],
                sequence_length=content["sequence_length"],
                tokenizer=TokenizerRef(**content["tokenizer"]),
                splits={
                    name: SplitManifest(
                        **{**split, "shards": [ShardRef(**shard) for shard in split["shards"]]}
                    )
                    for name, split in content["splits"].items()
                },
                families={name: FamilyTokens(**family) for name, family in content["families"].items()},
                base=content["base"],
                base_digest=content["base_digest"],
                chat_template=content["chat_template"],
                libraries=content.get("libraries", {}),
            )
        except (KeyError, TypeError, AttributeError):
            raise PixelError(
                f"{bucket.uri(key)} lacks fields of a {FORMAT} manifest.",
                hint="Materialize token_shards again.",
            ) from None


def current_manifest_key(bucket: Bucket) -> str:
    """Key of the manifest that training uses. Raises TokenShardsNotFoundError on a lake without tokens."""
    try:
        return str(bucket.get_json(keys.CURRENT_TOKENS)["manifest"])
    except ObjectNotFoundError:
        raise TokenShardsNotFoundError(
            f"The lake has no token shards yet ({bucket.uri(keys.CURRENT_TOKENS)} does not exist).",
            hint="Run `dagster job execute -j prepare_data` first; for an empty lake, `make demo` fills it with samples.",
        ) from None


def write_shard(bucket: Bucket, key: str, rows: PackedRows, *, family: str) -> ShardRef:
    """Store packed rows as one shard."""
    data = save({"tokens": rows.tokens, "loss_mask": rows.loss_mask, "segments": rows.segments})
    bucket.put(key, data)
    return ShardRef(
        key=key,
        family=family,
        rows=len(rows.tokens),
        tokens=rows.token_count,
        loss_tokens=rows.loss_token_count,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
    )


def read_shard(bucket: Bucket, shard: ShardRef) -> dict[str, NDArray[Any]]:
    """The arrays of a shard: `tokens`, `loss_mask`, `segments`, each [rows, L].

    Raises:
        CorruptShardError: the bytes do not have the manifest's sha256, or do not parse.
    """
    data = bucket.get(shard.key)
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise CorruptShardError(
            f"{bucket.uri(shard.key)} is not what its manifest says.", hint="Materialize token_shards again."
        )
    try:
        arrays: dict[str, NDArray[Any]] = load(data)
    except SafetensorError:
        raise CorruptShardError(f"{bucket.uri(shard.key)} is no safetensors file.") from None
    if arrays["tokens"].shape[0] != shard.rows or arrays["tokens"].dtype != np.int32:
        raise CorruptShardError(f"{bucket.uri(shard.key)} has other rows than its manifest says.")
    return arrays
