"""This project's side of `experts.py`. Runs in `.venv`."""

from collections.abc import Callable
from typing import Any

from benchmarks.harness import serve

Work = Callable[[], int]


def mixture(steps: int, **sizes: Any) -> Work:
    """Forward and backward of a dense Llama with LoRA experts. Counts tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from pixel_pipeline.training.config.adapters import AdaptersConfig
    from pixel_pipeline.training.model.adapter_state import adapter_parameters
    from pixel_pipeline.training.model.losses import load_balancing_loss
    from pixel_pipeline.training.model.mixture import build_mixture

    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=sizes["vocabulary"],
            hidden_size=sizes["hidden"],
            intermediate_size=sizes["intermediate"],
            num_hidden_layers=sizes["layers"],
            num_attention_heads=sizes["heads"],
            num_key_value_heads=sizes["key_value_heads"],
            tie_word_embeddings=True,
        )
    )
    config = AdaptersConfig(
        experts=sizes["experts"], experts_per_token=sizes["experts_per_token"], rank=sizes["rank"]
    )
    built = build_mixture(base, config, seed=0).train()
    trained = [*adapter_parameters(built).values()]
    tokens = torch.randint(0, sizes["vocabulary"], (sizes["rows"], sizes["length"]))
    real = torch.ones_like(tokens, dtype=torch.bool)

    def step() -> None:
        loss = built.model(input_ids=tokens, labels=tokens, use_cache=False).loss
        balance = load_balancing_loss(built.take_router_logits(), real=real, top_k=config.experts_per_token)
        (loss + 0.01 * balance).backward()
        for parameter in trained:
            assert parameter.grad is not None
            parameter.grad = None

    step()

    def work() -> int:
        for _ in range(steps):
            step()
        return steps * tokens.numel()

    return work


if __name__ == "__main__":
    serve({"mixture": mixture}, libraries=("torch", "transformers"))
