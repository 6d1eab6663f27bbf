"""Token shards in the lake: format, manifest, and the pointer to the current manifest."""

from dataclasses import dataclass, field
import hashlib
from typing import Self

import msgspec
from safetensors.numpy import save

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake import keys
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.tokens.packing import PackedRows

FORMAT = "pixel-token-shards/2"


class TokenShardsNotFoundError(PixelError):
    """The lake holds no token shards yet."""


@dataclass(frozen=True)
class TokenizerRef:
    """The tokenizer of a set of shards. `digest` identifies it in keys; `eos_id` ends an answer; `pad_id` may equal it."""

    key: str
    sha256: str
    digest: str
    vocab_size: int
    pad_id: int
    eos_id: int


@dataclass(frozen=True)
class ShardRef:
    """A safetensors file with `tokens` int32, `loss_mask` uint8 and `segments` int16, each [rows, L].

    All rows belong to one `family`; `bytes` is the object's size.
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
    """Shards of one split, with totals."""

    rows: int
    tokens: int
    loss_tokens: int
    shards: list[ShardRef]

    @classmethod
    def of(cls, shards: list[ShardRef]) -> Self:
        """Total the shards."""
        return cls(
            rows=sum(shard.rows for shard in shards),
            tokens=sum(shard.tokens for shard in shards),
            loss_tokens=sum(shard.loss_tokens for shard in shards),
            shards=shards,
        )


@dataclass(frozen=True)
class FamilyTokens:
    """A family's totals over all splits."""

    category: str
    conversations: int
    tokens: int


@dataclass(frozen=True)
class ShardManifest:
    """Everything that a trainer needs. Written last: shards without a manifest do not count.

    Attributes:
        base: Base model whose tokenizer and template were used; None for a tokenizer trained on the corpus.
        base_digest: That model's digest.
        chat_template: `chatml`, or `base` for the base model's own.
        libraries: Versions of the libraries that determine the tokens.
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
        """Read a manifest. Raises PixelError if it has another format or lacks fields."""
        content = bucket.get_json(key)
        if content.get("format") != FORMAT:
            raise PixelError(
                f"{bucket.uri(key)} is not a {FORMAT} manifest.", hint="Materialize token_shards again."
            )
        try:
            return msgspec.convert(content, cls)
        except msgspec.ValidationError:
            raise PixelError(
                f"{bucket.uri(key)} lacks fields of a {FORMAT} manifest.",
                hint="Materialize token_shards again.",
            ) from None


def current_manifest_key(bucket: Bucket) -> str:
    """Return the key of the current manifest. Raises TokenShardsNotFoundError on a lake without tokens."""
    try:
        return str(bucket.get_json(keys.CURRENT_TOKENS)["manifest"])
    except ObjectNotFoundError:
        raise TokenShardsNotFoundError(
            f"The lake has no token shards yet ({bucket.uri(keys.CURRENT_TOKENS)} does not exist).",
            hint="Run `dagster job execute -j prepare_data` first; `make demo` fills an empty lake with samples.",
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
