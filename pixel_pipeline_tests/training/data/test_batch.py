"""Packed rows do not leak into each other, and their loss equals a loop over conversations."""

from hypothesis import given
from hypothesis import strategies as st
import pytest
import torch
from torch import Tensor
import torch.nn.functional as F
from transformers import MixtralForCausalLM

from pixel_pipeline.tokens.shards import TokenizerRef
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.data.batch import pack_batch, segment_attention, segment_positions
from pixel_pipeline.training.model.from_scratch import build_model, mixtral_config
from pixel_pipeline.training.model.losses import linear_cross_entropy
from pixel_pipeline.training.model.native_model import NativeModel

LENGTH = 24
TOKENIZER = TokenizerRef(key="", sha256="", digest="", vocab_size=50, pad_id=0, eos_id=2)


def tiny_model(config: TrainingConfig, **changes: int) -> MixtralForCausalLM:
    shape = config.model_shape.model_copy(update=changes)
    sizes = mixtral_config(shape, tokenizer=TOKENIZER, sequence_length=LENGTH)
    return build_model(sizes, seed=1, device=torch.device("cpu")).train(False)


@pytest.fixture
def packed() -> tuple[Tensor, Tensor, Tensor]:
    """Two rows: segments of 7, 9 and 4 tokens and 4 of padding; one segment of 24."""
    segments = torch.tensor([[1] * 7 + [2] * 9 + [3] * 4 + [0] * 4, [1] * 24], dtype=torch.int16)
    tokens = torch.randint(3, 50, (2, LENGTH), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
    tokens[segments == 0] = 0
    loss_mask = ((torch.arange(LENGTH) % 3 > 0) & (segments > 0)).to(torch.uint8)
    loss_mask[:, 1:][segments[:, 1:] != segments[:, :-1]] = 0
    loss_mask[:, 0] = 0
    return tokens, loss_mask, segments


def logits(model: MixtralForCausalLM, tokens: Tensor, segments: Tensor) -> Tensor:
    with torch.no_grad():
        return model(
            input_ids=tokens.long(),
            attention_mask=segment_attention(segments),
            position_ids=segment_positions(segments),
            use_cache=False,
        ).logits


def test_conversations_do_not_affect_each_other(
    config: TrainingConfig, packed: tuple[Tensor, Tensor, Tensor]
) -> None:
    # With all experts for every token, all products keep their shapes, so results are equal to the bit.
    model = tiny_model(config, experts_per_token=4)
    tokens, _, segments = packed
    changed = tokens.clone()
    second = segments[0] == 2
    changed[0, second] = (changed[0, second] + 11) % 40 + 3
    before, after = logits(model, tokens, segments), logits(model, changed, segments)
    assert torch.equal(before[0, ~second], after[0, ~second])
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0, second], after[0, second])
    one_segment = (segments > 0).to(torch.int16)
    third = segments[0] == 3
    leaking = logits(model, tokens, one_segment), logits(model, changed, one_segment)
    assert (leaking[0][0, third] - leaking[1][0, third]).abs().max() > 1e-4


def test_packing_does_not_change_logits(
    config: TrainingConfig, packed: tuple[Tensor, Tensor, Tensor]
) -> None:
    model = tiny_model(config)
    tokens, _, segments = packed
    together = logits(model, tokens, segments)
    for number in (1, 2, 3):
        place = segments[0] == number
        with torch.no_grad():
            alone = model(input_ids=tokens[:1, place].long()).logits[0]
        torch.testing.assert_close(together[0, place], alone, atol=1e-5, rtol=1e-5)


def test_loss_equals_a_plain_loop(config: TrainingConfig, packed: tuple[Tensor, Tensor, Tensor]) -> None:
    model = tiny_model(config)
    tokens, loss_mask, segments = packed
    batch = pack_batch(tokens, loss_mask=loss_mask, segments=segments)
    with torch.no_grad():
        hidden, _ = NativeModel(model).hidden_and_routing(batch)
        total = linear_cross_entropy(hidden, weight_VH=model.lm_head.weight, targets_N=batch.targets)
        expected, count = torch.zeros(()), 0
        for row in range(2):
            for number in range(1, int(segments[row].max()) + 1):
                (place,) = torch.where(segments[row] == number)
                conversation = tokens[row, place].long()
                alone = model(input_ids=conversation[None]).logits[0]
                for position in range(1, len(conversation)):
                    if loss_mask[row, place[position]]:
                        expected += F.cross_entropy(alone[position - 1], conversation[position])
                        count += 1
    assert batch.targets.numel() == count == int(loss_mask.sum())
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-5)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 5))
def test_positions_and_targets_stay_within_segments(lengths: list[int], padding: int) -> None:
    numbers = [number for number, length in enumerate(lengths, 1) for _ in range(length)] + [0] * padding
    segments = torch.tensor([numbers], dtype=torch.int16)
    tokens = torch.arange(len(numbers), dtype=torch.int32)[None]
    batch = pack_batch(tokens, loss_mask=torch.ones_like(segments, dtype=torch.uint8), segments=segments)
    expected = [place for length in lengths for place in range(length)]
    assert batch.positions[0, : len(expected)].tolist() == expected
    for at, target in zip(batch.target_index.tolist(), batch.targets.tolist(), strict=True):
        assert target == at + 1
        assert numbers[at] == numbers[at + 1] != 0
    assert batch.targets.numel() == sum(length - 1 for length in lengths)
    allowed = batch.attention[0, 0] == 0
    for query in range(len(numbers)):
        seen = torch.where(allowed[query])[0].tolist()
        assert seen == [key for key in range(query + 1) if numbers[key] == numbers[query]]
