"""Answers a prompt with a checkpoint, token by token. Torch-free until the checkpoint is found."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.tokens.chat_template import START_ID, encode_conversations
from pixel_pipeline.tokens.tokenizer import deserialize
from pixel_pipeline.training.checkpoints import CheckpointRef, download
from pixel_pipeline.training.environment import prepare_environment, silence_libraries

if TYPE_CHECKING:
    from tokenizers import Tokenizer
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
    from transformers import AutoModelForCausalLM

    from pixel_pipeline.training.state import INFERENCE_FILES

    silence_libraries()
    with TemporaryDirectory(prefix="pixel-generate-") as name:
        folder = Path(name)
        download(lake, ref, folder=folder, names=INFERENCE_FILES)
        tokenizer = deserialize((folder / "tokenizer.json").read_bytes())
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
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


def encode_prompt(tokenizer: "Tokenizer", prompt: str) -> list[int]:
    """One user message and the head of the assistant's turn, encoded as in training."""
    (conversation,) = encode_conversations(tokenizer, [[("user", prompt)]])
    return [
        *conversation.tokens.tolist(),
        START_ID,
        *tokenizer.encode("assistant\n", add_special_tokens=False).ids,
    ]


def _stream(
    model: Any, tokenizer: "Tokenizer", tokens: list[int], *, most: int, choose: Any
) -> Iterator[str]:
    import torch

    past, fresh, made, shown = None, tokens, list[int](), ""
    with torch.inference_mode():
        while len(made) < most:
            output = model(input_ids=torch.tensor([fresh]), past_key_values=past, use_cache=True)
            past = output.past_key_values
            token = choose(output.logits[0, -1])
            if token == model.config.eos_token_id:
                break
            made.append(token)
            fresh = [token]
            text = tokenizer.decode(made)
            # A character of several bytes may span tokens; until it is whole, decoding ends in U+FFFD.
            if not text.endswith("\ufffd"):
                yield text[len(shown) :]
                shown = text
    yield tokenizer.decode(made)[len(shown) :]


def _sample(logits: "Tensor", *, temperature: float, top_p: float, generator: "torch.Generator") -> int:
    """Nucleus sampling (Holtzman et al., 2020, arXiv:1904.09751) of one token from [vocabulary] logits."""
    if temperature == 0:
        return int(logits.argmax())
    probabilities, order = (logits.float() / temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities
    kept = probabilities.masked_fill(before >= top_p, 0.0)
    return int(order[kept.multinomial(1, generator=generator)])
