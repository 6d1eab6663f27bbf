"""Mixtral's rule, the pull of domains, and the health of routers."""

from math import log

import pytest
import torch

from pixel_pipeline.training.config.adapters import AdaptersConfig, ExpertDomains
from pixel_pipeline.training.data.batch import pack_batch
from pixel_pipeline.training.model.losses import router_z_loss
from pixel_pipeline.training.model.mixture import build_mixture
from pixel_pipeline.training.model.router import Router, domain_pull
from pixel_pipeline.training.model.router_health import (
    RouterHealth,
    mean_health,
    mutual_information,
    router_health,
)
from pixel_pipeline_tests.training.model.conftest import BaseOf

DOMAINS = ExpertDomains(domains=("crisis", "psychology"), strength=8.0, steps=10)
REAL = torch.ones(6, dtype=torch.bool)


def test_weights_are_the_softmax_over_the_chosen() -> None:
    router = Router(8, experts=5, experts_per_token=2, generator=torch.Generator().manual_seed(0))
    routing = router(torch.randn(20, 8, generator=torch.Generator().manual_seed(1)))
    top_TK, expert_TK = routing.logits_TE.topk(2)
    assert torch.equal(routing.expert_TK, expert_TK)
    torch.testing.assert_close(routing.weight_TK, top_TK.softmax(dim=-1))


def test_the_pull_falls_to_nothing() -> None:
    def pull(step: int) -> torch.Tensor | None:
        return domain_pull(
            ["psychology", None, "other", "crisis"],
            config=DOMAINS,
            step=step,
            experts=4,
            row_length=2,
            device=torch.device("cpu"),
        )

    first = pull(0)
    assert first is not None
    assert first.shape == (8, 4)
    assert first.nonzero().tolist() == [[0, 1], [1, 1], [6, 0], [7, 0]]
    assert {*first[first > 0].tolist()} == {8.0}
    later = pull(5)
    assert later is not None
    assert later.max() == 4.0
    assert pull(10) is None
    assert ExpertDomains(domains=("a", "b", "c"), steps=1).expert_of("c", experts=2) == 0


def test_domains_are_drawn_to_their_experts_in_training_alone(base_of: BaseOf) -> None:
    mixture = build_mixture(base_of("llama"), AdaptersConfig(rank=2), seed=1)
    tokens = torch.arange(24, dtype=torch.int32).view(2, 12)
    ones = torch.ones(2, 12, dtype=torch.int16)
    batch = pack_batch(tokens, loss_mask=ones.to(torch.uint8), segments=ones)
    pull = domain_pull(
        ["crisis", "psychology"],
        config=DOMAINS,
        step=0,
        experts=4,
        row_length=12,
        device=torch.device("cpu"),
    )
    for training in (True, False):
        mixture.train(training)
        _, router_logits = mixture.hidden_and_routing(batch, pull_TE=pull)
        first = torch.stack([logits.argmax(-1) for logits in router_logits]).view(2, 2, 12)
        drawn = bool((first[:, 0] == 0).all() and (first[:, 1] == 1).all())
        assert drawn == training


def test_a_dead_expert_is_found() -> None:
    even = torch.eye(3).repeat(2, 1) * 5
    health = router_health([even, even - torch.tensor([0.0, 0.0, 99.0])], real=REAL, top_k=1)
    torch.testing.assert_close(health.load_LE[0], torch.full((3,), 1 / 3))
    assert health.dead_experts() == [(1, 2)]
    assert float(health.load_entropy_L[0]) == pytest.approx(1.0)
    assert float(health.load_entropy_L[1]) < 0.7


def test_entropy_tells_doubt_and_padding_does_not_count() -> None:
    certain, doubtful = torch.tensor([[50.0, 0.0, 0.0]]), torch.zeros(1, 3)
    logits = torch.cat([doubtful.expand(3, 3), certain.expand(3, 3)])
    for real, expected in ((REAL, log(3) / 2), (torch.arange(6) < 3, log(3))):
        health = router_health([logits], real=real, top_k=2)
        assert float(health.entropy_L[0]) == pytest.approx(expected, abs=1e-5)


def test_z_loss_is_the_squared_normaliser() -> None:
    logits = [torch.full((6, 4), value, requires_grad=True) for value in (0.0, 3.0)]
    expected = (log(4) ** 2 + (3 + log(4)) ** 2) / 2
    loss = router_z_loss(logits, real=REAL)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits[1:])
    assert (gradient > 0).all()


def test_mutual_information() -> None:
    assert mutual_information(torch.tensor([[10, 10], [30, 30]])) == pytest.approx(0.0, abs=1e-12)
    assert mutual_information(torch.tensor([[5, 0], [0, 5]])) == pytest.approx(log(2))
    assert mutual_information(torch.zeros(2, 2)) == 0.0


def test_an_expert_is_dead_over_many_batches_and_not_in_one() -> None:
    def batch(*chosen: int) -> RouterHealth:
        logits = torch.zeros(32, 4)
        logits[:, [*chosen]] = 5.0
        return router_health([logits], real=torch.ones(32, dtype=torch.bool), top_k=2)

    assert len(batch(0, 1).dead_experts()) == 2
    assert mean_health([batch(0, 1), batch(2, 3)]).dead_experts() == []
    assert mean_health([batch(0, 1), batch(1, 2)]).dead_experts() == [(0, 3)]
