"""The peers' side of `experts.py`. Runs in `.venv-peers`; imports only the harness from this project."""

from collections.abc import Callable
from typing import Any

from benchmarks.harness import serve

LIBRARIES = ("peft", "torch", "transformers")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
Work = Callable[[], int]


def _dense(sizes: dict[str, Any]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_shape(sizes)))


def _shape(sizes: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": sizes["vocabulary"],
        "hidden_size": sizes["hidden"],
        "intermediate_size": sizes["intermediate"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "num_key_value_heads": sizes["key_value_heads"],
        "tie_word_embeddings": True,
    }


def _work(model: Any, steps: int, sizes: dict[str, Any], **call: Any) -> Work:
    """Set up forward and backward steps; the first, for warm-up, is not part of the work."""
    import torch

    torch.manual_seed(0)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tokens = torch.randint(0, sizes["vocabulary"], (sizes["rows"], sizes["length"]))

    def step() -> None:
        model(input_ids=tokens, labels=tokens, use_cache=False, **call).loss.backward()
        for parameter in trained:
            assert parameter.grad is not None
            parameter.grad = None

    step()

    def work() -> int:
        for _ in range(steps):
            step()
        return steps * tokens.numel()

    return work


def upcycled_mixtral(steps: int, **sizes: Any) -> Work:
    """A Mixtral of the same sizes: PEFT adapts the stacked expert parameters, transformers uses grouped_mm."""
    from peft import LoraConfig, get_peft_model
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        **_shape(sizes),
        num_local_experts=sizes["experts"],
        num_experts_per_tok=sizes["experts_per_token"],
        router_aux_loss_coef=0.01,
        output_router_logits=True,
        sliding_window=None,
    )
    model = MixtralForCausalLM(config)
    model.set_experts_implementation("grouped_mm")
    lora = LoraConfig(
        r=sizes["rank"],
        lora_alpha=2 * sizes["rank"],
        target_modules=ATTENTION,
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    adapted = get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if name.endswith("mlp.gate.weight"):
            parameter.requires_grad_(True)
    return _work(adapted, steps, sizes)


def dense_lora(steps: int, **sizes: Any) -> Work:
    """PEFT on all linear layers of the dense model."""
    from peft import LoraConfig, get_peft_model
    import torch

    torch.manual_seed(0)
    lora = LoraConfig(
        r=sizes["rank"],
        lora_alpha=2 * sizes["rank"],
        target_modules=[*ATTENTION, "gate_proj", "up_proj", "down_proj"],
    )
    return _work(get_peft_model(_dense(sizes), lora), steps, sizes)


def expert_loop(steps: int, **sizes: Any) -> Work:
    """Like MoE-PEFT's `_mixlora_compatible_forward`: each expert is a full FFN pass over its tokens, with its own LoRA."""
    return _loop(steps, sizes, shared=False)


def shared_expert_loop(steps: int, **sizes: Any) -> Work:
    """Like its `LlamaMLP._mixlora_forward`, the default for a Llama: gate and up once per token, then sliced by indexing."""
    return _loop(steps, sizes, shared=True)


def _loop(steps: int, sizes: dict[str, Any], *, shared: bool) -> Work:
    from peft import LoraConfig, get_peft_model
    import torch
    from torch import Tensor, nn
    import torch.nn.functional as F

    rank, experts, top_k = sizes["rank"], sizes["experts"], sizes["experts_per_token"]

    def take(rows: Tensor, chosen: Tensor) -> Tensor:
        return rows[None, chosen].reshape(-1, rows.size(-1))

    class Lora(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.a = nn.Linear(inputs, rank, bias=False)
            self.b = nn.Linear(rank, outputs, bias=False)
            # MoE-PEFT rejects a LoRA without dropout; all its templates use 0.05.
            self.dropout = nn.Dropout(0.05)

        def forward(self, result: Tensor, x: Tensor) -> Tensor:
            return result + self.b(self.a(self.dropout(x))) * 2.0

    class Mixture(nn.Module):
        def __init__(self, base: Any) -> None:
            super().__init__()
            hidden, inner = sizes["hidden"], sizes["intermediate"]
            self.base = base
            self.router = nn.Linear(hidden, experts, bias=False)
            self.adapters = nn.ModuleList(
                nn.ModuleList([Lora(hidden, inner), Lora(hidden, inner), Lora(inner, hidden)])
                for _ in range(experts)
            )

        def forward(self, hidden_states: Tensor) -> Tensor:
            base, x = self.base, hidden_states.flatten(0, 1)
            probabilities = self.router(x).softmax(dim=-1)
            weights, chosen = probabilities.topk(top_k, dim=-1)
            weights = weights / weights.sum(dim=-1, keepdim=True)
            mask = F.one_hot(chosen, experts).permute(2, 1, 0)
            share = mask.float().mean(dim=(1, 2)) * top_k
            self.balance = experts * (share * probabilities.mean(0)).sum()
            common = (base.gate_proj(x), base.up_proj(x)) if shared else None
            result = torch.zeros_like(x)
            for expert, (gate, up, down) in enumerate(self.adapters):
                slot, token = torch.where(mask[expert])
                inputs = take(x, token)
                if common is None:
                    gated, upped = base.gate_proj(inputs), base.up_proj(inputs)
                else:
                    gated, upped = (take(value, token) for value in common)
                weight = weights[token, slot, None]
                h = base.act_fn(gate(gated, inputs)) * up(upped, inputs)
                result.index_add_(0, token, down(base.down_proj(h), h) * weight)
            return result.view(hidden_states.shape)

    class WithBalance(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, **call: Any) -> Any:
            output = self.model(**call)
            mixtures = [module for module in self.model.modules() if isinstance(module, Mixture)]
            output.loss = output.loss + 0.01 * torch.stack([module.balance for module in mixtures]).mean()
            return output

    torch.manual_seed(0)
    model = _dense(sizes)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=ATTENTION)
    adapted = get_peft_model(model, lora)
    for layer in model.model.layers:
        layer.mlp = Mixture(layer.mlp)
    return _work(WithBalance(adapted), steps, sizes)


if __name__ == "__main__":
    jobs: list[Callable[..., Work]] = [
        upcycled_mixtral,
        dense_lora,
        expert_loop,
        shared_expert_loop,
    ]
    serve({job.__name__: job for job in jobs}, libraries=LIBRARIES)
