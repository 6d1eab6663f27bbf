"""Greedy answers to many prompts at once. Imports torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pixel_pipeline.training.inference.generate import encode_messages, end_tokens

# 24 probes in three batches: a token of eight answers costs little more than one of one.
PROMPTS_PER_BATCH = 8
# Rules read phrases; a few sentences are enough.
MAX_NEW_TOKENS = 48


def greedy_answers(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int = MAX_NEW_TOKENS
) -> list[str]:
    """The likeliest answer to each prompt, as one user message; equal models give equal answers.

    A prompt that does not fit half of the model's context loses its beginning.
    """
    context = int(model.config.max_position_embeddings)
    room = min(max_new_tokens, context // 2)
    encoded = [
        encode_messages(tokenizer, [{"role": "user", "content": prompt}])[-(context - room) :]
        for prompt in prompts
    ]
    # Of like lengths together, so that little is padded.
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
    answers = [""] * len(encoded)
    with _attention_of_padded_prompts(model):
        for start in range(0, len(order), PROMPTS_PER_BATCH):
            chosen = order[start : start + PROMPTS_PER_BATCH]
            made = _greedy(model, [encoded[number] for number in chosen], room=room)
            for number, tokens in zip(chosen, made, strict=True):
                answers[number] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return answers


@contextmanager
def _attention_of_padded_prompts(model: Any) -> Iterator[None]:
    """What packed rows are trained with on a GPU would be compiled anew for every length."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.inference_mode()
def _greedy(model: Any, prompts: Sequence[list[int]], *, room: int) -> list[list[int]]:
    """New tokens of each prompt, without the one that ends it. Prompts are padded on the left."""
    ends = end_tokens(model)
    longest = max(map(len, prompts))
    tokens_BT = torch.zeros(len(prompts), longest, dtype=torch.int64, device=model.device)
    mask_BT = torch.zeros_like(tokens_BT)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, longest - len(prompt) :] = torch.tensor(prompt, device=model.device)
        mask_BT[row, longest - len(prompt) :] = 1
    position_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    made: list[list[int]] = [[] for _ in prompts]
    open_rows = {*range(len(prompts))}
    past = None
    for _ in range(room):
        output = model(
            input_ids=tokens_BT,
            attention_mask=mask_BT,
            position_ids=position_BT,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        past = output.past_key_values
        next_B: Tensor = output.logits[:, -1].argmax(-1)
        for row, token in enumerate(next_B.tolist()):
            if token in ends:
                open_rows.discard(row)
            elif row in open_rows:
                made[row].append(token)
        if not open_rows:
            break
        tokens_BT = next_B.unsqueeze(1)
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(prompts), 1)], dim=1)
        position_BT = position_BT[:, -1:] + 1
    return made
