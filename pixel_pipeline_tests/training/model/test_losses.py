"""The chunked cross entropy and the per-layer balancing loss against plain formulas."""

import pytest
import torch
import torch.nn.functional as F
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from pixel_pipeline.training.model.losses import CHUNK_ROWS, linear_cross_entropy, load_balancing_loss


@pytest.mark.parametrize("rows", [1, CHUNK_ROWS, 2 * CHUNK_ROWS + 3])
def test_linear_cross_entropy_equals_that_of_torch(rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 16, generator=generator, requires_grad=True)
    weight = torch.randn(30, 16, generator=generator, requires_grad=True)
    targets = torch.randint(0, 30, (rows,), generator=generator)
    expected = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    wanted = torch.autograd.grad(expected * 0.3, (hidden, weight))
    loss = linear_cross_entropy(hidden, weight_VH=weight, targets_N=targets)
    gradients = torch.autograd.grad(loss * 0.3, (hidden, weight))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_head_costs_no_gradient(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = CHUNK_ROWS + 3
    hidden = torch.randn(rows, 16, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(30, 16, generator=generator).to(dtype)
    targets = torch.randint(0, 30, (rows,), generator=generator)
    found = []
    for frozen in (True, False):
        weight = head.clone().requires_grad_(not frozen)
        loss = linear_cross_entropy(hidden, weight_VH=weight, targets_N=targets)
        kept = [tensor for tensor in loss.grad_fn.saved_tensors if tensor is not None]  # type: ignore[union-attr]
        assert len(kept) == (1 if frozen else 2)
        found.append((loss, *torch.autograd.grad(loss, hidden)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    expected = F.cross_entropy(hidden.float() @ head.float().t(), targets, reduction="sum")
    (wanted,) = torch.autograd.grad(expected, hidden)
    close = {"rtol": 2e-2, "atol": 5e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found[0][0], expected, **close)
    torch.testing.assert_close(found[0][1], wanted, **close)


def test_no_targets_give_no_loss() -> None:
    hidden = torch.empty(0, 4, requires_grad=True)
    weight = torch.ones(5, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight_VH=weight, targets_N=torch.empty(0, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not weight.grad.any()


def test_two_collapsed_layers_are_not_balanced() -> None:
    # Each layer sends every token to two experts; together the layers use all four evenly.
    first = torch.tensor([[9.0, 9.0, -9.0, -9.0]]).repeat(8, 1)
    layers = (first, first.flip(1))
    real = torch.ones(8, dtype=torch.bool)
    assert float(load_balancing_loss(layers, real=real, top_k=2)) == pytest.approx(2.0, abs=1e-3)
    # transformers pools the layers and scores this as balanced (top_k on its scale).
    assert float(load_balancing_loss_func(layers, 4, 2)) / 2 == pytest.approx(1.0, abs=1e-3)


def test_even_routing_is_one_and_padding_is_excluded() -> None:
    even = torch.eye(4).repeat(4, 1) * 0.01
    even = even + even.roll(1, dims=1)
    collapsed = torch.tensor([[9.0, 9.0, -9.0, -9.0]]).repeat(16, 1)
    real = torch.arange(32) < 16
    loss = load_balancing_loss((torch.cat([even, collapsed]),), real=real, top_k=2)
    assert float(loss) == pytest.approx(1.0, abs=1e-3)


def test_the_router_gets_a_gradient() -> None:
    logits = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    load_balancing_loss((logits,), real=torch.ones(16, dtype=torch.bool), top_k=2).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() > 0
