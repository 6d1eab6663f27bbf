"""Encoders of conversations: a tokenizer trained on the corpus, or a base model's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
import hashlib

from pixel_pipeline.lake import keys
from pixel_pipeline.lake.s3.bucket import Bucket
from pixel_pipeline.tokens.base_template import Turns
from pixel_pipeline.tokens.base_tokenizer import BaseTokenizer
from pixel_pipeline.tokens.chat_template import END_ID, PAD_ID, EncodedConversation, encode_conversations
from pixel_pipeline.tokens.shards import TokenizerRef
from pixel_pipeline.tokens.tokenizer import serialize, train_tokenizer


@dataclass(frozen=True)
class Encoder:
    """`encode` turns conversations into tokens; the tokenizer is stored at `reference.key`."""

    reference: TokenizerRef
    chat_template: str
    encode: Callable[[Sequence[Turns]], list[EncodedConversation]]


def own_encoder(bucket: Bucket, texts: Iterator[list[str]], *, vocab_size: int) -> Encoder:
    """Train and store a tokenizer, and encode with it in ChatML."""
    tokenizer = train_tokenizer(texts, vocab_size=vocab_size)
    reference = _store(
        bucket, serialize(tokenizer), vocab_size=tokenizer.get_vocab_size(), pad_id=PAD_ID, eos_id=END_ID
    )
    return Encoder(
        reference=reference, chat_template="chatml", encode=partial(encode_conversations, tokenizer)
    )


def base_encoder(bucket: Bucket, base: BaseTokenizer) -> Encoder:
    """Encode with a base model's tokenizer and template; the tokenizer is stored beside the shards too."""
    reference = _store(bucket, base.data, vocab_size=base.vocab_size, pad_id=base.pad_id, eos_id=base.end_id)
    return Encoder(
        reference=reference, chat_template="base" if base.own_template else "chatml", encode=base.encode
    )


def _store(bucket: Bucket, data: bytes, *, vocab_size: int, pad_id: int, eos_id: int) -> TokenizerRef:
    sha256 = hashlib.sha256(data).hexdigest()
    digest = sha256[:16]
    key = f"{keys.TOKENS}/{digest}/tokenizer.json"
    bucket.put(key, data)
    return TokenizerRef(
        key=key, sha256=sha256, digest=digest, vocab_size=vocab_size, pad_id=pad_id, eos_id=eos_id
    )
