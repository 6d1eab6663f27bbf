"""The cost model against the counters of torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.model.adapter_state import adapter_parameters
from pixel_pipeline.training.model.cost import MixtureCost
from pixel_pipeline.training.model.experts import ffn as lora_experts
from pixel_pipeline.training.model.experts.lora import LoraPair
from pixel_pipeline.training.model.mixture import build_mixture
from pixel_pipeline_tests.training.model.conftest import VOCABULARY, BaseOf

TOKENS = torch.arange(64).view(2, 32) % VOCABULARY
SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 6, "head_dim": 32}


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize(
    "config",
    [
        AdaptersConfig(rank=4),
        AdaptersConfig(rank=3, layers=(1,)),
        AdaptersConfig(experts=1, experts_per_token=1),
    ],
)
def test_parameters_are_counted_exactly(kind: str, config: AdaptersConfig, base_of: BaseOf) -> None:
    base = base_of(kind, head_dim=16)
    cost = MixtureCost(base.config, config)
    assert cost.frozen_parameters == sum(parameter.numel() for parameter in base.parameters())
    trained = adapter_parameters(build_mixture(base, config, seed=1)).values()
    assert cost.trained_parameters == sum(parameter.numel() for parameter in trained)


@pytest.mark.parametrize("experts", [1, 4])
def test_operations_match_the_count_of_torch(experts: int, base_of: BaseOf) -> None:
    config = AdaptersConfig(experts=experts, experts_per_token=min(experts, 2), rank=2)
    mixture = build_mixture(base_of("mistral", **SIZES), config, seed=1).train()
    # Eager attention is counted, but without causality.
    mixture.model.set_attn_implementation("eager")
    cost = MixtureCost(mixture.model.config, config)
    with FlopCounterMode(display=False) as counted:
        mixture.model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward()
    causal_half = 3 * 6 * 2 * 4 * 32 * 32 * 64
    expected = cost.flops_per_token(32) * 64 + causal_half
    # The tolerance covers the first layer's input, which needs no gradient, all experts' A, and recomputed narrow products.
    assert counted.get_total_flops() == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("experts", [1, 4])
def test_kept_memory_matches_autograd(experts: int, base_of: BaseOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_experts, "is_silu", lambda activation: False)
    config = AdaptersConfig(experts=experts, experts_per_token=min(experts, 2), rank=4)
    for layers in (2, 4):
        base = base_of("llama", **{**SIZES, "num_hidden_layers": layers}).to(torch.bfloat16)
        mixture = build_mixture(base, config, seed=1).train()
        for module in mixture.modules():
            if isinstance(module, LoraPair):
                # Otherwise copies in bf16 are kept, which are negligible with realistic numbers of tokens.
                module.to(torch.bfloat16)
        with kept_bytes(mixture) as kept:
            mixture.model.model(input_ids=TOKENS, use_cache=False)
        if layers == 2:
            two = sum(kept.values())
    predicted = MixtureCost(mixture.model.config, config).kept_bytes_per_token(checkpointing=False) * 64
    found = (sum(kept.values()) - two) * 2
    if config.routed:
        # The inputs of `checkpoint` are kept separately.
        found += 4 * 64 * 2 * (2 * 256 + 2 * 4 * 4)
    assert found == pytest.approx(predicted, rel=0.08)


@contextmanager
def kept_bytes(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Bytes of each storage that autograd keeps, except parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def test_checkpointing_keeps_only_the_input_of_layers(base_of: BaseOf) -> None:
    cost = MixtureCost(base_of("llama", **SIZES).config, AdaptersConfig(rank=4))
    assert cost.kept_bytes_per_token(checkpointing=True) == 6 * 128 * 2
    little, much = (
        cost.peak_bytes(tokens=64, checkpointing=checkpointing, chunk_rows=512)
        for checkpointing in (True, False)
    )
    assert cost.fixed_bytes() < little < much
