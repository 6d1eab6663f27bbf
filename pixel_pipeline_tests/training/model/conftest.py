"""Tiny dense models to put experts into."""

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from pixel_pipeline.training.model.adapter_state import adapter_parameters
from pixel_pipeline.training.model.mixture import Mixture

VOCABULARY = 61

Dense = LlamaForCausalLM | MistralForCausalLM
BaseOf = Callable[..., Dense]


@pytest.fixture
def base_of() -> BaseOf:
    """A function that makes the same random model whenever it is asked for the same one: of "llama" or "mistral"."""

    def make(kind: str, **changes: int) -> Dense:
        torch.manual_seed(11)
        sizes = {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
        }
        sizes |= changes
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))
        return MistralForCausalLM(MistralConfig(**sizes, sliding_window=None))

    return make


def randomize(mixture: Mixture, *, std: float = 0.2) -> Mixture:
    """Adapters that matter, as after long training."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapter_parameters(mixture).values():
            parameter.normal_(std=std, generator=generator)
    return mixture
