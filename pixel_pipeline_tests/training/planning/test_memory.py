"""Micro-batches that fit by the memory model."""

from hypothesis import given
from hypothesis import strategies as st
from transformers import MistralConfig

from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.model.cost import MixtureCost
from pixel_pipeline.training.planning.memory import (
    ENOUGH_TOKENS,
    USABLE_SHARE,
    MicroBatch,
    available_ram,
    choose_micro_batch,
)

GIB = 2**30
COST = MixtureCost(MistralConfig(), AdaptersConfig())


def choose(available: int, *, rows: int = 32, length: int = 512, device: str = "cuda") -> MicroBatch:
    return choose_micro_batch(
        COST, rows_per_step=rows, row_tokens=length, available=available, device=device, head_chunk_rows=512
    )


@given(
    available=st.integers(15, 200).map(lambda gib: gib * GIB),
    rows=st.integers(1, 200),
    length=st.integers(64, 8192),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_the_choice_fits_or_is_the_smallest(available: int, rows: int, length: int, device: str) -> None:
    chosen = choose(available, rows=rows, length=length, device=device)
    assert 1 <= chosen.rows <= rows
    assert chosen.peak_bytes is not None
    if chosen.peak_bytes > available * USABLE_SHARE:
        assert (chosen.rows, chosen.checkpoint_activations) == (1, True)
    assert chosen.rows == 1 or chosen.rows * length <= ENOUGH_TOKENS[device]


@given(
    less=st.integers(15, 200).map(lambda gib: gib * GIB),
    more=st.integers(0, 200).map(lambda gib: gib * GIB),
)
def test_more_memory_is_never_worse(less: int, more: int) -> None:
    tight, wide = choose(less), choose(less + more)
    assert (wide.checkpoint_activations, -wide.rows) <= (tight.checkpoint_activations, -tight.rows)


def test_a_7b_model_on_cards_of_several_sizes() -> None:
    assert choose(141 * GIB) == MicroBatch(
        32, False, COST.peak_bytes(tokens=16_384, checkpointing=False, chunk_rows=512)
    )
    on_80 = choose(80 * GIB)
    assert (on_80.rows, on_80.checkpoint_activations) == (16, False)
    on_24 = choose(24 * GIB)
    assert on_24.checkpoint_activations
    assert on_24.rows >= 1


def test_the_smallest_is_one_row_with_recomputed_activations() -> None:
    tried, micro = [], MicroBatch(8, False)
    while (smaller := micro.smaller()) is not None:
        tried.append((smaller.rows, smaller.checkpoint_activations))
        micro = smaller
    assert tried == [(4, False), (2, False), (1, False), (1, True)]


def test_this_machine_has_memory() -> None:
    assert 2**26 < available_ram() < 2**50
