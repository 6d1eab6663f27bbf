"""A whole model with experts: against the plain loop, its packed rows, its memory, its switches."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask
from transformers import MixtralConfig, MixtralForCausalLM

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.data.batch import PackedBatch, pack_batch
from pixel_pipeline.training.errors import AdapterError
from pixel_pipeline.training.model.adapter_state import adapter_parameters
from pixel_pipeline.training.model.experts import activation as expert_activation
from pixel_pipeline.training.model.experts import ffn as lora_experts
from pixel_pipeline.training.model.experts.ffn import MixtureFFN
from pixel_pipeline.training.model.experts.products import grouped_products
from pixel_pipeline.training.model.losses import linear_cross_entropy, load_balancing_loss, router_z_loss
from pixel_pipeline.training.model.mixture import (
    Mixture,
    build_mixture,
    dense_baseline,
    matched_dense,
)
from pixel_pipeline.training.model.packed_attention import block_mask, packed_attention
from pixel_pipeline_tests.training.model.conftest import VOCABULARY, BaseOf, randomize
from pixel_pipeline_tests.training.model.oracle import plain_forward

CONFIG = AdaptersConfig(experts=4, experts_per_token=2, rank=4, alpha=8)
SHAPES = {
    "llama": {},
    "mistral": {},
    "heads of another width": {"head_dim": 16},
    "one key head": {"num_key_value_heads": 1},
    "as many key heads": {"num_key_value_heads": 4},
}


@pytest.fixture
def batch() -> PackedBatch:
    """Two rows of 24: conversations of 7, 9 and 4 tokens with 4 of padding; and one of 24."""
    segments = torch.tensor([[1] * 7 + [2] * 9 + [3] * 4 + [0] * 4, [1] * 24], dtype=torch.int16)
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(3, VOCABULARY, (2, 24), generator=generator, dtype=torch.int32)
    return pack_batch(tokens, loss_mask=(segments > 0).to(torch.uint8), segments=segments)


def loss_of(mixture: Mixture, batch: PackedBatch) -> Tensor:
    """As training computes it."""
    hidden, router_logits = mixture.hidden_and_routing(batch)
    loss = linear_cross_entropy(hidden, weight_VH=mixture.head_weight, targets_N=batch.targets)
    loss = loss / batch.targets.numel()
    if router_logits:
        balance = load_balancing_loss(router_logits, real=batch.real, top_k=mixture.config.experts_per_token)
        loss = loss + 0.01 * balance + 0.001 * router_z_loss(router_logits, real=batch.real)
    return loss


def gradients(mixture: Mixture, batch: PackedBatch) -> tuple[Tensor, dict[str, Tensor]]:
    parameters = adapter_parameters(mixture)
    loss = loss_of(mixture, batch)
    found = torch.autograd.grad(loss, [*parameters.values()])
    return loss.detach(), dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradients_are_those_of_the_plain_loop(
    shape: str, batch: PackedBatch, base_of: BaseOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = shape if shape in {"llama", "mistral"} else "mistral"
    mixture = randomize(build_mixture(base_of(kind, **SHAPES[shape]), CONFIG, seed=1))
    loss, fast = gradients(mixture, batch)

    def by_definition(ffn: MixtureFFN, x: Tensor) -> Tensor:
        ffn.router_logits = ffn.router(x.flatten(0, 1)).logits_TE
        return plain_forward(ffn, x)

    monkeypatch.setattr(MixtureFFN, "forward", by_definition)
    expected, plain = gradients(mixture, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=2e-5)


def test_attention_changes_are_those_of_merged_weights(batch: PackedBatch, base_of: BaseOf) -> None:
    mixture = randomize(build_mixture(base_of("llama"), CONFIG.model_copy(update={"layers": ()}), seed=1))
    assert mixture.take_router_logits() == ()
    merged = base_of("llama")
    for layer, plain in zip(mixture.layers, merged.model.layers, strict=True):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            changed = getattr(layer.self_attn, name)
            with torch.no_grad():
                getattr(plain.self_attn, name).weight += changed.scale * changed.lora_B @ changed.lora_A
    expected = merged(input_ids=batch.tokens).logits
    torch.testing.assert_close(mixture.model(input_ids=batch.tokens).logits, expected, rtol=1e-4, atol=1e-4)


def test_the_rule_is_mixtrals(batch: PackedBatch, base_of: BaseOf) -> None:
    """The same model as transformers' Mixtral with merged experts."""
    base = base_of("mistral")
    mixture = randomize(build_mixture(base, CONFIG.model_copy(update={"attention": False}), seed=1))
    sizes = {**base.config.to_dict(), "num_local_experts": 4, "num_experts_per_tok": 2}
    sizes.pop("model_type")
    mixtral = MixtralForCausalLM(MixtralConfig(**sizes)).eval()
    plain = base_of("mistral").state_dict()
    mixtral.load_state_dict(
        {name: value for name, value in plain.items() if ".mlp." not in name}, strict=False
    )
    with torch.no_grad():
        for ffn, layer in zip(mixture.routed_layers(), mixtral.model.layers, strict=True):
            layer.mlp.gate.weight.copy_(ffn.router.weight)
            for pair, weight, into in (
                (ffn.experts.gate, ffn.base.gate_proj.weight, layer.mlp.experts.gate_up_proj[:, :48]),
                (ffn.experts.up, ffn.base.up_proj.weight, layer.mlp.experts.gate_up_proj[:, 48:]),
                (ffn.experts.down, ffn.base.down_proj.weight, layer.mlp.experts.down_proj),
            ):
                into.copy_(weight + ffn.scale * pair.lora_B @ pair.lora_A)
        expected = mixtral(input_ids=batch.tokens).logits
        torch.testing.assert_close(
            mixture.model(input_ids=batch.tokens).logits, expected, rtol=1e-4, atol=2e-5
        )


def test_packed_conversations_do_not_reach_each_other(batch: PackedBatch, base_of: BaseOf) -> None:
    # All experts for each token: every product keeps its shape, so that equality is to the bit.
    config = CONFIG.model_copy(update={"experts_per_token": 4})
    mixture = randomize(build_mixture(base_of("llama"), config, seed=1))

    def logits(tokens: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            return mixture.model(
                input_ids=tokens, attention_mask=mask, position_ids=batch.positions, use_cache=False
            ).logits

    mask = packed_attention(batch, dtype=torch.float32)
    second = batch.documents[0] == 2
    changed = batch.tokens.clone()
    changed[0, second] = (changed[0, second] + 11) % 40 + 3
    before, after = logits(batch.tokens, mask), logits(changed, mask)
    assert torch.equal(before[0, ~second], after[0, ~second])
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0, second], after[0, second])
    leaking = torch.zeros_like(mask).masked_fill_(~torch.ones(24, 24, dtype=torch.bool).tril(), float("-inf"))
    third = batch.documents[0] == 3
    assert (logits(batch.tokens, leaking) - logits(changed, leaking))[0, third].abs().max() > 1e-4
    for number in (1, 2, 3):
        place = batch.documents[0] == number
        with torch.no_grad():
            alone = mixture.model(input_ids=batch.tokens[:1, place]).logits[0]
        torch.testing.assert_close(before[0, place], alone, rtol=1e-4, atol=1e-5)


def test_a_window_is_kept(batch: PackedBatch) -> None:
    mask = packed_attention(batch, dtype=torch.float32, window=3)[0, 0]
    assert torch.where(mask[6] == 0)[0].tolist() == [4, 5, 6]
    assert torch.where(mask[8] == 0)[0].tolist() == [7, 8]
    assert torch.equal(packed_attention(batch, dtype=torch.float32, window=24), batch.attention)


@pytest.mark.parametrize("window", [None, 3])
def test_a_gpus_mask_sees_the_same(window: int | None, batch: PackedBatch) -> None:
    mask = block_mask(batch.documents, window=window)
    allowed = create_mask(mask.mask_mod, B=2, H=1, Q_LEN=24, KV_LEN=24, device="cpu")
    assert torch.equal(allowed, packed_attention(batch, dtype=torch.float32, window=window) == 0)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_no_expert_has_a_copy_of_the_ffn(kind: str, base_of: BaseOf) -> None:
    def size(model: torch.nn.Module) -> int:
        return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])

    base = base_of(kind)
    before, places = size(base), {parameter.data_ptr() for parameter in base.parameters()}
    mixture = build_mixture(base, CONFIG.model_copy(update={"experts": 8}), seed=1)
    adapters = adapter_parameters(mixture)
    assert size(mixture) == before + sum(parameter.nbytes for parameter in adapters.values())
    frozen = {parameter.data_ptr() for parameter in mixture.parameters() if not parameter.requires_grad}
    assert frozen == places
    assert {id(parameter) for parameter in mixture.parameters() if parameter.requires_grad} == {
        id(parameter) for parameter in adapters.values()
    }


@pytest.mark.parametrize("changes", [{}, {"attention": False}, {"layers": (1,)}, {"experts": 8, "rank": 16}])
def test_the_dense_baseline_has_as_many_parameters(changes: dict[str, object], base_of: BaseOf) -> None:
    config = AdaptersConfig(**{**CONFIG.model_dump(), **changes})
    mixture, dense = (build(base_of("llama"), config, seed=1) for build in (build_mixture, dense_baseline))
    counts = [
        sum(parameter.numel() for parameter in adapter_parameters(model).values())
        for model in (mixture, dense)
    ]
    assert abs(counts[0] - counts[1]) <= counts[1] / dense.config.rank / 2
    assert dense.config == matched_dense(config, mixture.model.config)
    assert dense.config.scale == pytest.approx(config.scale)
    assert not any("router" in name for name in adapter_parameters(dense))


def test_the_dense_baseline_trains(batch: PackedBatch, base_of: BaseOf) -> None:
    dense = dense_baseline(base_of("mistral"), CONFIG, seed=1)
    _, found = gradients(dense, batch)
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_every_gradient_is_there_from_the_first_step(batch: PackedBatch, base_of: BaseOf) -> None:
    """The router's is exactly zero as long as all experts are the same function."""
    mixture = build_mixture(base_of("llama"), CONFIG, seed=1)

    def of_routers() -> list[float]:
        parameters = adapter_parameters(mixture)
        routers = [value for name, value in parameters.items() if name.endswith("router.weight")]
        hidden, _ = mixture.hidden_and_routing(batch)
        loss = linear_cross_entropy(hidden, weight_VH=mixture.head_weight, targets_N=batch.targets)
        return [float(gradient.abs().max()) for gradient in torch.autograd.grad(loss, routers)]

    assert min(of_routers()) > 1e-5
    for name, parameter in adapter_parameters(mixture).items():
        if "experts" in name and name.endswith("lora_B"):
            torch.nn.init.zeros_(parameter)
    # But for rounding.
    assert max(of_routers()) < 1e-6


def test_a_new_mixture_is_nearly_its_base(batch: PackedBatch, base_of: BaseOf) -> None:
    base = base_of("llama")
    with torch.no_grad():
        before = base(input_ids=batch.tokens).logits
        after = build_mixture(base, CONFIG, seed=1).model(input_ids=batch.tokens).logits
    difference = (after - before).abs().max()
    assert 0 < difference < 0.02 * before.abs().max()


def test_equal_seeds_give_equal_adapters(base_of: BaseOf) -> None:
    one, same, other = (
        adapter_parameters(build_mixture(base_of("llama"), CONFIG, seed=seed)) for seed in (3, 3, 4)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointed_activations_change_nothing(dropout: float, batch: PackedBatch, base_of: BaseOf) -> None:
    config = CONFIG.model_copy(update={"dropout": dropout})
    mixture = randomize(build_mixture(base_of("mistral"), config, seed=1))
    mixture.train()
    found = []
    for enabled in (False, True, False):
        mixture.checkpoint_activations(enabled)
        torch.manual_seed(9)
        found.append(gradients(mixture, batch))
    for loss, other in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=0, atol=0)
        torch.testing.assert_close(other, found[0][1], rtol=1e-5, atol=1e-7)


def test_it_generates(base_of: BaseOf) -> None:
    mixture = randomize(build_mixture(base_of("llama"), CONFIG, seed=1)).eval()
    start = torch.tensor([[5, 6, 7]])
    text = mixture.model.generate(start, max_new_tokens=5, do_sample=False, pad_token_id=0)
    with torch.no_grad():
        again = mixture.model(input_ids=text[:, :-1], use_cache=False).logits.argmax(-1)
    assert text.shape == (1, 8)
    assert torch.equal(again[0, 2:], text[0, 3:])


def test_other_architectures_and_layers_are_refused(base_of: BaseOf) -> None:
    with pytest.raises(AdapterError, match="Mixtral"):
        build_mixture(
            MixtralForCausalLM(
                MixtralConfig(num_hidden_layers=1, hidden_size=32, intermediate_size=32, vocab_size=8)
            ),
            CONFIG,
            seed=1,
        )
    with pytest.raises(AdapterError, match=r"\[2\]"):
        build_mixture(base_of("llama"), CONFIG.model_copy(update={"layers": (0, 2)}), seed=1)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_compiled_blocks_are_one_graph_and_the_same(
    checkpointed: bool, batch: PackedBatch, base_of: BaseOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU but for the code that is made of the graph."""
    monkeypatch.setattr(lora_experts, "is_silu", lambda activation: False)
    monkeypatch.setattr(expert_activation, "expert_products", grouped_products)
    config = CONFIG.model_copy(update={"rank": 8})
    mixture = randomize(
        build_mixture(base_of("mistral").to(torch.bfloat16), config, seed=1), std=0.05
    ).train()
    mixture.checkpoint_activations(checkpointed)
    loss, eager = gradients(mixture, batch)
    mixture.compile_blocks(backend="aot_eager")
    again, compiled = gradients(mixture, batch)
    torch.testing.assert_close(again, loss, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(compiled, eager, rtol=2e-2, atol=1e-3)
