"""Frozen products in 8 bits: against dequantised ones, against exact ones, and in a mixture."""

from hypothesis import given
from hypothesis import strategies as st
import pytest
import torch
from torch import Tensor, nn

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.data.batch import pack_batch
from pixel_pipeline.training.errors import AdapterError
from pixel_pipeline.training.model.adapter_state import adapter_parameters
from pixel_pipeline.training.model.cost import MixtureCost
from pixel_pipeline.training.model.float8_linear import Float8Linear, check_float8, rounded
from pixel_pipeline.training.model.losses import linear_cross_entropy
from pixel_pipeline.training.model.mixture import build_mixture, dense_baseline
from pixel_pipeline_tests.examples import examples
from pixel_pipeline_tests.training.model.conftest import VOCABULARY, BaseOf

CONFIG = AdaptersConfig(experts=4, experts_per_token=2, rank=4, alpha=8)
# bf16 rounds a sum to 2^-9 of it.
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2**-8}


def dequantised(x_NM: Tensor) -> Tensor:
    x8_NM, scale_N1 = rounded(x_NM)
    return x8_NM.float() * scale_N1


@pytest.mark.parametrize("dtype", ROUNDING)
@examples(10)
@given(
    tokens=st.integers(1, 20),
    inputs=st.sampled_from([16, 48, 64]),
    outputs=st.sampled_from([16, 32]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_are_those_of_the_rounded_values(
    dtype: torch.dtype, tokens: int, inputs: int, outputs: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    base = nn.Linear(inputs, outputs, bias=bias).to(dtype).requires_grad_(False)
    x = torch.randn(1, tokens, inputs).to(dtype).requires_grad_()
    direction = torch.randn(1, tokens, outputs).to(dtype)
    y = Float8Linear(base)(x)
    (gradient,) = torch.autograd.grad(y, x, direction)
    weight = dequantised(base.weight)
    expected = dequantised(x.detach()[0]) @ weight.t()
    if bias:
        expected += base.bias.float()
    assert y.dtype == gradient.dtype == dtype
    assert_close(y[0], expected, dtype)
    assert_close(gradient[0], direction[0].float() @ weight, dtype)


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """To a few roundings of the largest value."""
    assert (found.float() - expected).abs().max() <= 4 * ROUNDING[dtype] * expected.abs().max()


@examples(25)
@given(
    exponents=st.lists(st.integers(-40, 40), min_size=1, max_size=6),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_rounding_is_bounded_in_each_row(exponents: list[int], width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([2.0**exponent for exponent in exponents])
    x = torch.randn(len(exponents), width, generator=generator) * sizes.unsqueeze(1)
    x[0] = 0
    error = (dequantised(x) - x).abs()
    bound = torch.maximum(x.abs() / 16, x.abs().amax(1, keepdim=True) * 2**-18)
    assert bool((error <= bound * (1 + 1e-5)).all())


def test_a_product_is_off_by_some_percent_and_no_more() -> None:
    torch.manual_seed(0)
    base = nn.Linear(512, 512, bias=False).requires_grad_(False)
    x = torch.randn(64, 512)
    # A token and an output a thousand times larger than the others cost those nothing.
    base.weight[3] *= 1000
    x[5] *= 1000
    exact, found = base(x)[:, 4:], Float8Linear(base)(x)[:, 4:]
    off = (found - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(off.min()) > 0.01, "not in 8 bits"
    assert float(off.max()) < 0.06


@pytest.mark.parametrize("build", [build_mixture, dense_baseline])
def test_a_model_in_8_bits_trains_as_one_in_16(base_of: BaseOf, build: object) -> None:
    assert callable(build)
    segments = torch.ones(2, 24, dtype=torch.int16)
    tokens = torch.arange(48).view(2, 24) * 7 % VOCABULARY
    batch = pack_batch(tokens, loss_mask=segments, segments=segments)
    losses = {}
    for precision in ("model", "fp8"):
        mixture = build(base_of("llama"), CONFIG, seed=1, frozen_precision=precision).train()
        frozen = {name: value.clone() for name, value in mixture.named_buffers()}
        parameters = [*adapter_parameters(mixture).values()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        losses[precision] = []
        for _ in range(30):
            hidden, _ = mixture.hidden_and_routing(batch)
            loss = linear_cross_entropy(hidden, weight_VH=mixture.head_weight, targets_N=batch.targets)
            (loss / batch.targets.numel()).backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[precision].append(float(loss.detach()) / batch.targets.numel())
        assert all(torch.equal(value, frozen[name]) for name, value in mixture.named_buffers())
    assert losses["fp8"][0] == pytest.approx(losses["model"][0], rel=0.01)
    assert losses["fp8"][0] != losses["model"][0]
    assert losses["fp8"][-1] == pytest.approx(losses["model"][-1], rel=0.02)
    assert losses["fp8"][-1] < 0.9 * losses["fp8"][0]


def test_memory_is_what_is_foretold(base_of: BaseOf) -> None:
    base = base_of("mistral", head_dim=16).to(torch.bfloat16)
    mixture = build_mixture(base, CONFIG, seed=1, frozen_precision="fp8")
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in [*mixture.parameters(), *mixture.buffers()]
    }
    rotary = sum(
        buffer.untyped_storage().nbytes() for name, buffer in mixture.named_buffers() if "rotary" in name
    )
    cost = MixtureCost(base.config, CONFIG, frozen_precision="fp8")
    # Gradients and the optimizer's state come on top of the trained weights.
    expected = cost.fixed_bytes() - 12 * cost.trained_parameters
    assert sum(held.values()) - rotary == expected
    assert cost.fixed_bytes() < MixtureCost(base.config, CONFIG).fixed_bytes()


def test_a_layer_compiles_as_one_graph(base_of: BaseOf) -> None:
    mixture = build_mixture(base_of("llama"), CONFIG, seed=1, frozen_precision="fp8")
    tokens = torch.arange(16).view(1, 16)
    layer = mixture.layers[0].mlp.base.gate_proj
    x = torch.randn(1, 16, 32, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(x).sum(), x), torch.autograd.grad(layer(x).sum(), x)
    )
    assert torch.isfinite(mixture.model(input_ids=tokens).logits).all()


def test_what_cannot_be_is_said(base_of: BaseOf, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdapterError, match=r"multiples of 16; layers.0.mlp.gate_proj is 32 by 40"):
        build_mixture(base_of("llama", intermediate_size=40), CONFIG, seed=1, frozen_precision="fp8")
    model = nn.Linear(16, 16)
    with pytest.raises(AdapterError, match="device of type mps"):
        check_float8(model, device=torch.device("mps"), dtype=torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(AdapterError, match=r"capability 8\.9; this one has 8\.0"):
        check_float8(model, device=torch.device("cuda"), dtype=torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(AdapterError, match="the model is in float32"):
        check_float8(model, device=torch.device("cuda"), dtype=torch.float32)
    check_float8(model, device=torch.device("cuda"), dtype=torch.bfloat16)
