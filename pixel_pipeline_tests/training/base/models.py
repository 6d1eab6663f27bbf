"""Tiny random base models on disk, as their makers publish them: written by transformers itself."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from pixel_pipeline.tokens.chat_template import JINJA
from pixel_pipeline.tokens.tokenizer import serialize, train_tokenizer

WORDS = ["calm sleep work tired hopeful river kitchen walk breathe slowly a friend"]
SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def write_base(
    folder: Path,
    *,
    kind: str = "mistral",
    seed: int = 0,
    shard: str | int = "1GB",
    dtype: str = "float32",
    **sizes: Any,
) -> Path:
    """Write a random model with a tokenizer of its size."""
    torch.manual_seed(seed)
    config_class, model_class = {
        "mistral": (MistralConfig, MistralForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[kind]
    config = config_class(**{**SIZES, **sizes})
    model = model_class(config).to(getattr(torch, dtype))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder, max_shard_size=shard)
    write_tokenizer(folder, size=config.vocab_size)
    return folder


def write_tokenizer(folder: Path, *, size: int) -> None:
    """A tokenizer of at most `size` ids, as close to it as the few words allow."""
    tokenizer = train_tokenizer(iter([WORDS]), vocab_size=size)
    missing = size - tokenizer.get_vocab_size()
    plain = Tokenizer.from_str(serialize(tokenizer).decode())
    plain.add_tokens([f"<extra_{number}>" for number in range(missing)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        chat_template=JINJA,
    )
    fast.save_pretrained(folder)
