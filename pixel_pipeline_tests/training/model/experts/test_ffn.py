"""Both fast forms of the mixture FFN against the plain loop: outputs and every gradient."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.model.experts import blocked_activation
from pixel_pipeline.training.model.experts import ffn as lora_experts
from pixel_pipeline.training.model.experts.dispatch import Dispatch
from pixel_pipeline.training.model.experts.ffn import MixtureFFN
from pixel_pipeline.training.model.experts.products import expert_products, grouped_products
from pixel_pipeline_tests.examples import examples
from pixel_pipeline_tests.training.model.oracle import plain_forward


def make_ffn(
    config: AdaptersConfig, *, hidden: int, inner: int, bias: bool = False, act: str = "silu", seed: int = 0
) -> MixtureFFN:
    """In fp64, with adapters of the size of the base."""
    generator = torch.Generator().manual_seed(seed)
    base = LlamaMLP(
        LlamaConfig(
            hidden_size=hidden,
            intermediate_size=inner,
            num_attention_heads=1,
            head_dim=2,
            mlp_bias=bias,
            hidden_act=act,
        )
    ).requires_grad_(False)
    ffn = MixtureFFN(base, config=config, generator=generator).double()
    for parameter in ffn.parameters():
        with torch.no_grad():
            parameter.normal_(std=0.3, generator=generator)
    return ffn


def results(ffn: MixtureFFN, x: Tensor, forward: Any) -> list[Tensor]:
    """Output, gradient of the input, and those of all that is trained."""
    trained = [parameter for parameter in ffn.parameters() if parameter.requires_grad]
    y = forward(ffn, x)
    direction = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad((y * direction).sum() + y.square().sum(), [x, *trained])]


@pytest.fixture(params=["blocked", "grouped"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two forms a CPU uses."""
    if request.param == "grouped":
        monkeypatch.setattr(lora_experts, "is_silu", lambda activation: False)
    return str(request.param)


def assert_exact(ffn: MixtureFFN, x: Tensor) -> None:
    fast, plain = results(ffn, x, MixtureFFN.forward), results(ffn, x, plain_forward)
    # With one expert a token the router's gradient is a difference of equals: rounding is that of the largest numbers.
    largest = max(1.0, *(float(tensor.detach().abs().max()) for tensor in plain))
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11 * largest)


@examples(25)
@given(
    rows=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    hidden=st.integers(1, 12),
    inner=st.integers(1, 20),
    experts=st.integers(2, 6),
    data=st.data(),
)
def test_any_shape_is_the_plain_loop(
    rows: tuple[int, int], hidden: int, inner: int, experts: int, data: st.DataObject
) -> None:
    config = AdaptersConfig(
        experts=experts,
        experts_per_token=data.draw(st.integers(1, experts), "experts_per_token"),
        rank=data.draw(st.integers(1, 5), "rank"),
        alpha=data.draw(st.sampled_from([0.5, 4.0, 32.0]), "alpha"),
    )
    ffn = make_ffn(config, hidden=hidden, inner=inner, bias=data.draw(st.booleans(), "bias"))
    x = torch.randn(*rows, hidden, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    # From a token a block to all in one.
    block_bytes = data.draw(st.sampled_from([1, 1000, 2**21]), "block_bytes")
    for blocked in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocked_activation, "BLOCK_BYTES", block_bytes)
            patch.setattr(lora_experts, "is_silu", lambda activation, blocked=blocked: blocked)
            assert_exact(ffn, x.requires_grad_())


def test_experts_without_tokens(form: str) -> None:
    ffn = make_ffn(AdaptersConfig(experts=5, experts_per_token=2, rank=3), hidden=8, inner=12)
    x = torch.rand(2, 6, 8, dtype=torch.double, requires_grad=True)
    with torch.no_grad():
        # Inputs are positive: experts 1 and 3 always win.
        ffn.router.weight.copy_(torch.tensor([-1.0, 2.0, -1.0, 1.0, -2.0]).unsqueeze(1).expand(5, 8))
    assert {*ffn.router(x.flatten(0, 1)).expert_TK.flatten().tolist()} == {1, 3}
    assert_exact(ffn, x)


def test_another_activation_goes_the_general_way() -> None:
    ffn = make_ffn(AdaptersConfig(rank=2), hidden=8, inner=12, act="gelu")
    assert_exact(ffn, torch.randn(1, 7, 8, dtype=torch.double, requires_grad=True))


def test_bf16_is_close_to_fp64(form: str) -> None:
    ffn = make_ffn(AdaptersConfig(rank=4), hidden=32, inner=48)
    x = torch.randn(2, 20, 32, dtype=torch.double)
    exact = ffn(x).detach()
    ffn.base.to(torch.bfloat16)
    for pair in (ffn.experts.gate, ffn.experts.up, ffn.experts.down):
        pair.float()
    y = ffn(x.to(torch.bfloat16)).detach()
    assert y.dtype == torch.bfloat16
    # Some tokens may be routed otherwise by their rounded input; the median is not moved by them.
    assert float((y.double() - exact).abs().median() / exact.abs().median()) < 0.03


def test_dropout_changes_training_alone() -> None:
    ffn = make_ffn(AdaptersConfig(rank=4, dropout=0.5), hidden=16, inner=24)
    x = torch.randn(1, 9, 16, dtype=torch.double)
    ffn.train()
    assert not torch.equal(ffn(x), ffn(x))
    ffn.train(False)
    torch.testing.assert_close(ffn(x), plain_forward(ffn, x))


def test_dropout_keeps_the_mean() -> None:
    ffn = make_ffn(AdaptersConfig(rank=4, dropout=0.2), hidden=16, inner=24)
    torch.nn.init.zeros_(ffn.experts.gate.lora_B)
    torch.nn.init.zeros_(ffn.experts.up.lora_B)
    x = torch.randn(1, 3, 16, dtype=torch.double).repeat(4000, 1, 1)
    torch.manual_seed(3)
    ffn.train()
    mean = ffn(x).mean(0)
    torch.testing.assert_close(mean, plain_forward(ffn, x)[0], rtol=0.1, atol=0.15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_equal_the_loop(dtype: torch.dtype) -> None:
    """As a GPU computes them; with an expert that gets nothing."""
    generator = torch.Generator().manual_seed(8)
    expert_TK = torch.tensor([[0, 2], [2, 3], [0, 3], [3, 2], [0, 2]])
    dispatch = Dispatch.of(expert_TK, experts=4)
    assert dispatch.count_E.tolist() == [3, 0, 4, 3]
    x = torch.randn(10, 8, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(4, 16, 8, generator=generator).to(dtype).requires_grad_()
    found = []
    for products in (expert_products, grouped_products):
        y = products(x, weight.transpose(1, 2), dispatch)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, weight])])
    for loop, grouped in zip(*found, strict=True):
        torch.testing.assert_close(grouped, loop, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def test_dispatch_and_back_is_the_identity() -> None:
    expert_TK = torch.tensor([[1, 0], [1, 2], [2, 0]])
    dispatch = Dispatch.of(expert_TK, experts=3)
    x = torch.arange(6.0).view(3, 2).requires_grad_()
    sent = dispatch.to_experts(x)
    assert sent[:, 0].tolist() == [0, 4, 0, 2, 2, 4]
    back = dispatch.to_tokens(sent)
    assert torch.equal(back, x.unsqueeze(1).expand(3, 2, 2))
    (gradient,) = torch.autograd.grad((back * torch.tensor([1.0, 10.0]).view(1, 2, 1)).sum(), x)
    assert torch.equal(gradient, torch.full((3, 2), 11.0))
