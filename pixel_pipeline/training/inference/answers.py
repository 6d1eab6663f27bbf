"""Greedy answers to many prompts at once. Imports torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch

from pixel_pipeline.training.inference.generate import encode_messages, end_tokens

# One step for eight answers costs little more than a step for one.
PROMPTS_PER_BATCH = 8
# A few sentences are enough for the safety rules.
MAX_NEW_TOKENS = 48


def greedy_answers(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int = MAX_NEW_TOKENS
) -> list[str]:
    """Decode an answer to each prompt greedily. Equal models give equal answers.

    A prompt longer than half of the model's context is cut at its start.
    """
    context = int(model.config.max_position_embeddings)
    room = min(max_new_tokens, context // 2)
    encoded = [
        encode_messages(tokenizer, [{"role": "user", "content": prompt}])[-(context - room) :]
        for prompt in prompts
    ]
    # Batch prompts of similar length to reduce padding.
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
    answers = [""] * len(encoded)
    with _attention_of_padded_prompts(model):
        for start in range(0, len(order), PROMPTS_PER_BATCH):
            chosen = order[start : start + PROMPTS_PER_BATCH]
            generated = _greedy(model, [encoded[number] for number in chosen], room=room)
            for number, tokens in zip(chosen, generated, strict=True):
                answers[number] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return answers


@contextmanager
def _attention_of_padded_prompts(model: Any) -> Iterator[None]:
    """Use sdpa: the attention for packed rows would compile again for every length on a GPU."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _greedy(model: Any, prompts: Sequence[list[int]], *, room: int) -> list[list[int]]:
    """New tokens of each prompt, without the end token. Prompts are padded on the left."""
    ends = end_tokens(model)
    longest = max(map(len, prompts))
    tokens_BT = torch.zeros(len(prompts), longest, dtype=torch.int64, device=model.device)
    mask_BT = torch.zeros_like(tokens_BT)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, longest - len(prompt) :] = torch.tensor(prompt, device=model.device)
        mask_BT[row, longest - len(prompt) :] = 1
    generated = model.generate(
        tokens_BT,
        attention_mask=mask_BT,
        max_new_tokens=room,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=min(ends),
    )
    return [[*takewhile(lambda token: token not in ends, row[longest:])] for row in generated.tolist()]
