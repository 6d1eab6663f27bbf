"""Answers a prompt with a checkpoint, token by token. Torch-free until the checkpoint is found."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.checkpoints import CheckpointRef
from pixel_pipeline.training.environment import prepare_environment, silence_libraries

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def generate(
    lake: Lake,
    checkpoint: CheckpointRef | str,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
) -> Iterator[str]:
    """Stream the assistant's answer to one user message, in pieces of text as they are made.

    Args:
        checkpoint: A reference, or what `CheckpointRef.resolve` understands.
        max_new_tokens: The answer ends here at the latest; it also ends where the model's context is full.
        temperature: 0 takes the likeliest token each time; else logits are divided by it.
        top_p: Sample from the smallest set of tokens that has this share of the probability.
        seed: Equal seeds give equal answers.

    Raises:
        CheckpointNotFoundError, CheckpointCorruptError: see their classes.
        PixelError: an option out of range, or a prompt longer than the model's context.
    """
    if temperature < 0 or not 0 < top_p <= 1 or max_new_tokens < 1:
        raise PixelError(
            "Generation options are out of range.",
            hint="temperature >= 0, 0 < top_p <= 1, max_new_tokens >= 1.",
        )
    ref = CheckpointRef.resolve(lake, checkpoint) if isinstance(checkpoint, str) else checkpoint
    prepare_environment()
    import torch
    from transformers import AutoTokenizer

    from pixel_pipeline.training.models import open_checkpoint

    silence_libraries()
    with open_checkpoint(lake, ref, home=get_settings().home, device=torch.device("cpu")) as opened:
        model = opened.model.model
        tokenizer = AutoTokenizer.from_pretrained(opened.folder, local_files_only=True)
    tokens = encode_prompt(tokenizer, prompt)
    room = model.config.max_position_embeddings - len(tokens)
    if room < 1:
        raise PixelError(
            f"The prompt has {len(tokens)} tokens; the model's context is {model.config.max_position_embeddings}.",
            hint="Shorten the prompt.",
        )
    generator = torch.Generator().manual_seed(seed)
    return _stream(
        model,
        tokenizer,
        tokens,
        most=min(max_new_tokens, room),
        choose=lambda logits: _sample(logits, temperature=temperature, top_p=top_p, generator=generator),
    )


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """One user message and the head of the assistant's turn, by the tokenizer's chat template."""
    tokens: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return tokens


def _ends(model: Any) -> set[int]:
    """Tokens that end an answer; some models have several."""
    ends = model.generation_config.eos_token_id
    return {*ends} if isinstance(ends, list) else {ends}


def _stream(model: Any, tokenizer: Any, tokens: list[int], *, most: int, choose: Any) -> Iterator[str]:
    import torch

    past, fresh, made, shown, ends = None, tokens, list[int](), "", _ends(model)
    with torch.inference_mode():
        while len(made) < most:
            output = model(input_ids=torch.tensor([fresh]), past_key_values=past, use_cache=True)
            past = output.past_key_values
            token = choose(output.logits[0, -1])
            if token in ends:
                break
            made.append(token)
            fresh = [token]
            text = tokenizer.decode(made, skip_special_tokens=True)
            # A character of several bytes may span tokens; until it is whole, decoding ends in U+FFFD.
            if not text.endswith("\ufffd"):
                yield text[len(shown) :]
                shown = text
    yield tokenizer.decode(made, skip_special_tokens=True)[len(shown) :]


def _sample(logits: "Tensor", *, temperature: float, top_p: float, generator: "torch.Generator") -> int:
    """Nucleus sampling (Holtzman et al., 2020, arXiv:1904.09751) of one token from [vocabulary] logits."""
    if temperature == 0:
        return int(logits.argmax())
    probabilities, order = (logits.float() / temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities
    kept = probabilities.masked_fill(before >= top_p, 0.0)
    return int(order[kept.multinomial(1, generator=generator)])
