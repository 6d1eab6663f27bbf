"""A byte-level BPE tokenizer trained on the corpus itself."""

from collections.abc import Iterator
import hashlib

import orjson
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pixel_pipeline.tokens.chat_template import SPECIAL_TOKENS


def train_tokenizer(texts: Iterator[list[str]], *, vocab_size: int) -> Tokenizer:
    """Train on batches of message contents. The same texts in the same order give the same tokenizer.

    Args:
        texts: Batches of strings.
        vocab_size: Upper bound, special tokens and the 256 bytes included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # Spellings of special tokens inside a message stay text; `chat_template` places the real ones by id.
    tokenizer.encode_special_tokens = True
    return tokenizer


def serialize(tokenizer: Tokenizer) -> bytes:
    """`tokenizer.json`, with sorted keys: equal tokenizers are equal bytes."""
    return orjson.dumps(orjson.loads(tokenizer.to_str()), option=orjson.OPT_SORT_KEYS)


def deserialize(data: bytes) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`."""
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.encode_special_tokens = True
    return tokenizer


def tokenizer_digest(data: bytes) -> str:
    """Digest (16 hex digits) that names the tokenizer in keys."""
    return hashlib.sha256(data).hexdigest()[:16]
