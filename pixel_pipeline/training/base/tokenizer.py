"""Checks that a tokenizer matches an embedding. Torch-free."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pixel_pipeline.registry.base_models import BaseModelError
from pixel_pipeline.training.base.files import TOKENIZER

# Embeddings are padded for fast kernels, some by hundreds of rows. Beyond this share, the tokenizer belongs to another model.
MOST_PADDING = 0.1


def check_tokenizer(folder: Path, config: Any) -> None:
    """Refuse a tokenizer that does not match the embedding, and special tokens outside of it.

    Raises:
        BaseModelError: with both sizes.
    """
    path, rows = folder / TOKENIZER, config.vocab_size
    try:
        vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    except Exception:  # noqa: BLE001  the library raises bare exceptions that quote the file
        raise BaseModelError(f"{path} is not a tokenizer.", hint="Take it from the model's source.") from None
    size = max(vocabulary.values(), default=-1) + 1
    if size > rows or rows - size > MOST_PADDING * rows:
        raise BaseModelError(
            f"The tokenizer of {folder} has ids up to {size - 1:,}, the embedding {rows:,} rows: they are of different models.",
            hint="Put the tokenizer that the weights were trained with into the folder.",
        )
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    for name, token in [
        ("bos", config.bos_token_id),
        ("pad", config.pad_token_id),
        *(("eos", end) for end in ends),
    ]:
        # Some configurations use -1 for no padding.
        if token is not None and not (0 <= token < rows or (name == "pad" and token == -1)):
            raise BaseModelError(
                f"{name}_token_id {token} of {folder} is outside of the embedding's {rows:,} rows.",
                hint="Correct it in config.json.",
            )
