"""The spike guard: its decisions, skipped updates, restored weights."""

from collections.abc import Callable
from math import inf, nan

from hypothesis import given
from hypothesis import strategies as st
import lightning.pytorch as pl
import pytest
import torch
from transformers import MixtralConfig

from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.data.batch import PackedBatch, pack_batch
from pixel_pipeline.training.errors import TrainingDivergedError
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.loop.spike_guard import LEAST, PATIENCE, SpikeGuard, Verdict
from pixel_pipeline.training.model.from_scratch import build_model
from pixel_pipeline.training.model.native_model import NativeModel

GUARD = SpikeGuard(10.0)
falling = [4.0 - 0.02 * step for step in range(60)]


def judge(
    loss: float, losses: list[float], *, skipped: tuple[int, ...] = (), rewinds: tuple[int, ...] = ()
) -> Verdict:
    return GUARD.verdict(loss, losses=losses, skipped=skipped, rewinds=rewinds)


@given(st.lists(st.floats(1.9, 2.1), min_size=0, max_size=300), st.floats(0, 2.1))
def test_ordinary_losses_are_accepted(losses: list[float], loss: float) -> None:
    assert judge(loss, losses) is Verdict.TAKE


@given(st.lists(st.floats(0, 20), max_size=LEAST - 1), st.floats(0, 1e9))
def test_a_few_losses_are_not_enough_to_skip(losses: list[float], loss: float) -> None:
    assert judge(loss, losses) is Verdict.TAKE


@pytest.mark.parametrize("loss", [nan, inf, 60.0])
def test_a_spike_is_skipped_and_a_lasting_one_rewinds(loss: float) -> None:
    losses, skipped = [*falling], []
    for _ in range(PATIENCE - 1):
        assert judge(loss, losses, skipped=tuple(skipped)) is Verdict.SKIP
        losses.append(loss)
        skipped.append(len(losses))
    assert judge(loss, losses, skipped=tuple(skipped)) is Verdict.REWIND
    # Spikes with good steps in between do not rewind.
    losses.append(3.0)
    assert judge(loss, losses, skipped=tuple(skipped)) is Verdict.SKIP


def test_a_high_loss_is_accepted_after_a_rewind() -> None:
    losses = [*falling, 60.0, 60.0, 60.0]
    step = len(losses)
    assert judge(60.0, losses, skipped=(step - 2, step - 1, step), rewinds=(step,)) is Verdict.TAKE


LENGTH, VOCABULARY = 16, 64


@pytest.fixture
def fit(config: TrainingConfig) -> Callable[..., tuple[MoEModule, list[str]]]:
    """Trains a tiny model on batches; True stands for a batch of noise."""

    def run(garbage: list[bool], **changes: object) -> tuple[MoEModule, list[str]]:
        sizes = MixtralConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            num_local_experts=4,
        )
        lines: list[str] = []
        module = MoEModule(
            NativeModel(build_model(sizes, seed=1, device=torch.device("cpu"))),
            config=config.model_copy(update={"steps": len(garbage), **changes}),
            history=History(),
            report=lines.append,
        )
        generator = torch.Generator().manual_seed(3)
        batches = [_batch(generator, garbage=bad) for bad in garbage]
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(module, train_dataloaders=torch.utils.data.DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
        return module, lines

    return run


def _batch(generator: torch.Generator, *, garbage: bool) -> PackedBatch:
    """Counting rows, which the model soon memorizes, or noise."""
    starts = torch.randint(VOCABULARY, (4, 1), generator=generator)
    tokens = (starts + torch.arange(LENGTH)) % VOCABULARY
    if garbage:
        tokens = torch.randint(VOCABULARY, tokens.shape, generator=generator)
    ones = torch.ones(tokens.shape, dtype=torch.uint8)
    return pack_batch(tokens, loss_mask=ones, segments=ones.short())


def test_a_bad_batch_does_not_change_the_weights(fit: Callable[..., tuple[MoEModule, list[str]]]) -> None:
    module, lines = fit([False] * 150 + [True] + [False] * 9)
    assert module.history.skipped == [151]
    assert len(module.history.losses) == 160
    assert max(module.history.losses[151:]) < 2 * max(module.history.losses[140:150])
    assert any("step 151" in line for line in lines)
    taken, _ = fit([False] * 150 + [True] + [False] * 9, spike_threshold=None)
    assert taken.history.skipped == []


def test_a_lasting_spike_restores_the_weights(fit: Callable[..., tuple[MoEModule, list[str]]]) -> None:
    module, lines = fit([False] * 150 + [True] * PATIENCE + [False] * 7)
    assert module.history.rewinds == [150 + PATIENCE]
    assert any("the weights of step 150 are restored" in line for line in lines)
    assert module.history.losses[-1] < 2 * module.history.losses[149]


def test_a_run_that_diverges_again_ends(
    fit: Callable[..., tuple[MoEModule, list[str]]],
) -> None:
    with pytest.raises(TrainingDivergedError, match="learning rate"):
        fit([False] * 30, learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match="learning rate"):
        fit([False] * 30, learning_rate=1e30, spike_threshold=None)
