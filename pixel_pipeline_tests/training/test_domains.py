"""Experts that specialize in domains: a bias towards them, and a loss that trains the routers."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from pixel_pipeline.training.base.model import open_folder
from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.config.adapters import AdaptersConfig, ExpertDomains
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.data.batch import PackedBatch, pack_batch
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.loop.scoring import expert_counts
from pixel_pipeline.training.model.adapted_model import AdaptedModel
from pixel_pipeline.training.model.losses import domain_loss
from pixel_pipeline.training.model.router_health import mutual_information

LENGTH, WORDS, STEPS = 32, 8, 30
DOMAINS = ("calm", "work")


def batch(generator: torch.Generator) -> PackedBatch:
    """Two rows of each domain; the domains share no words, so a linear router can separate them."""
    words = torch.randint(WORDS, (4, LENGTH), generator=generator)
    words[2:] += WORDS
    ones = torch.ones(words.shape, dtype=torch.uint8)
    return pack_batch(words, loss_mask=ones, segments=ones.short(), families=("calm", "calm", "work", "work"))


def domain_information(config: TrainingConfig, base: Path) -> float:
    """Mutual information, in nats, of expert and domain after training, on rows not trained on."""
    model = AdaptedModel(
        open_folder(base), AdaptersConfig(rank=4, alpha=8), seed=1, device=torch.device("cpu")
    ).train()
    module = MoEModule(model, config=config, history=History(), domain_of={name: name for name in DOMAINS})
    generator = torch.Generator().manual_seed(2)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    batches = [batch(generator) for _ in range(config.steps)]
    trainer.fit(module, train_dataloaders=DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    held_out = batch(generator)
    model.train(False)
    with torch.no_grad():
        _, logits = model.hidden_and_routing(held_out)
    counts = [
        expert_counts(logits, real=real, experts=4, top_k=2).sum(0)
        for real in (rows_of(held_out, range(2)), rows_of(held_out, range(2, 4)))
    ]
    return mutual_information(torch.stack(counts))


def rows_of(rows: PackedBatch, wanted: range) -> torch.Tensor:
    real = torch.zeros_like(rows.real)
    real[wanted.start : wanted.stop] = True
    return real


def test_the_loss_trains_the_routers_on_domains(adapted: TrainingConfig, base: Path) -> None:
    config = adapted.model_copy(update={"steps": STEPS, "rows_per_micro_batch": None})
    domains = ExpertDomains(domains=DOMAINS, steps=STEPS)
    taught = domain_information(config.model_copy(update={"domains": domains}), base)
    biased = domain_information(
        config.model_copy(update={"domains": domains.model_copy(update={"teaching": 0.0})}), base
    )
    assert taught > 0.4
    assert taught > biased + 0.05


def test_tokens_without_a_bias_are_excluded_from_the_loss() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], requires_grad=True)
    pull = torch.tensor([[4.0, 0.0], [0.0, 0.0], [4.0, 0.0]])
    loss = domain_loss([logits], pull_TE=pull, real=torch.tensor([True, True, False]))
    assert float(loss) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits[:1], torch.tensor([0])))
    )
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[1:].abs().sum() == 0
    assert float(domain_loss([logits], pull_TE=torch.zeros(3, 2), real=torch.ones(3, dtype=torch.bool))) == 0
