"""A byte-level BPE tokenizer trained on the corpus."""

from collections.abc import Iterator

import orjson
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pixel_pipeline.tokens.chat_template import SPECIAL_TOKENS


def train_tokenizer(texts: Iterator[list[str]], *, vocab_size: int) -> Tokenizer:
    """Train on batches of message contents. The same texts in the same order give the same tokenizer.

    Args:
        texts: Batches of strings.
        vocab_size: Upper bound, including special tokens and the 256 bytes.
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
    # Spellings of special tokens inside a message stay text; `chat_template` inserts special tokens by id.
    tokenizer.encode_special_tokens = True
    return tokenizer


def serialize(tokenizer: Tokenizer) -> bytes:
    """Write `tokenizer.json` with sorted keys, so that equal tokenizers have equal bytes."""
    return orjson.dumps(orjson.loads(tokenizer.to_str()), option=orjson.OPT_SORT_KEYS)
