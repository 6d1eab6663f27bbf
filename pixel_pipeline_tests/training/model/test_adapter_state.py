"""Names, shapes and checks of the trained tensors."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
import torch

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.errors import AdapterError
from pixel_pipeline.training.model.adapter_state import (
    adapter_description,
    adapter_state,
    load_adapter_state,
)
from pixel_pipeline.training.model.mixture import build_mixture, dense_baseline
from pixel_pipeline_tests.training.model.conftest import BaseOf, randomize

CONFIG = AdaptersConfig(experts=3, experts_per_token=2, rank=4, alpha=8, layers=(1,))


def test_names_and_shapes(base_of: BaseOf) -> None:
    state = adapter_state(build_mixture(base_of("mistral", head_dim=16), CONFIG, seed=1))
    attention = {
        f"layers.{layer}.attention.{name}.{matrix}": shape
        for layer in (0, 1)
        for name, a, b in (("q", 32, 64), ("k", 32, 32), ("v", 32, 32), ("o", 64, 32))
        for matrix, shape in (("lora_A", (4, a)), ("lora_B", (b, 4)))
    }
    experts = {
        "layers.1.router.weight": (3, 32),
        "layers.1.experts.gate.lora_A": (3, 4, 32),
        "layers.1.experts.gate.lora_B": (3, 48, 4),
        "layers.1.experts.up.lora_A": (3, 4, 32),
        "layers.1.experts.up.lora_B": (3, 48, 4),
        "layers.1.experts.down.lora_A": (3, 4, 48),
        "layers.1.experts.down.lora_B": (3, 32, 4),
    }
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == attention | experts
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_a_stored_state_is_the_same_model(base_of: BaseOf, tmp_path: Path) -> None:
    tokens = torch.arange(12).unsqueeze(0)
    for build in (build_mixture, dense_baseline):
        trained = randomize(build(base_of("llama"), CONFIG, seed=1))
        save_file(adapter_state(trained), tmp_path / "adapter.safetensors")
        fresh = build(base_of("llama"), CONFIG, seed=2)
        load_adapter_state(fresh, load_file(tmp_path / "adapter.safetensors"))
        with torch.no_grad():
            assert torch.equal(fresh.model(input_ids=tokens).logits, trained.model(input_ids=tokens).logits)


def test_what_does_not_fit_is_refused_as_a_whole(base_of: BaseOf) -> None:
    mixture = build_mixture(base_of("llama"), CONFIG, seed=1)
    state = {name: tensor.clone() for name, tensor in adapter_state(mixture).items()}
    name = "layers.1.experts.up.lora_A"
    for changed, told in (
        ({key: value for key, value in state.items() if key != name}, f"{name} is missing"),
        (state | {"layers.7.router.weight": state[name]}, "layers.7.router.weight is not known"),
        (state | {name: state[name][:2]}, r"is \[2, 4, 32\], not \[3, 4, 32\]"),
        (state | {name: state[name] / 0}, "is not finite"),
    ):
        zeros = {key: torch.zeros_like(value) if key != name else value for key, value in changed.items()}
        with pytest.raises(AdapterError, match=told):
            load_adapter_state(mixture, zeros)
        assert all(torch.equal(value, state[key]) for key, value in adapter_state(mixture).items())


def test_the_description_tells_the_sizes() -> None:
    assert adapter_description(CONFIG, layers=2, base="tiny", base_digest="ab") == {
        "base": "tiny",
        "base_digest": "ab",
        "experts": 3,
        "experts_per_token": 2,
        "rank": 4,
        "alpha": 8.0,
        "layers": [1],
        "attention": True,
        "dropout": 0.0,
    }
