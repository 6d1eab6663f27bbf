"""Answers messages with a checkpoint or an export, token by token. Torch-free until the model is found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import is_path
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.runtime.environment import prepare_environment, silence_libraries

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Message = Mapping[str, str]
"""`role` and `content`."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: An answer ends here at the latest; it also ends where the model's context is full.
        temperature: 0 takes the likeliest token each time; else logits are divided by it.
        top_p: Sample from the smallest set of tokens that has this share of the probability.
        seed: Equal seeds give equal answers.
    """

    max_new_tokens: int = 128
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_new_tokens < 1:
            raise PixelError(
                "Generation options are out of range.",
                hint="temperature >= 0, 0 < top_p <= 1, max_new_tokens >= 1.",
            )


@dataclass(frozen=True)
class Speaker:
    """A model of transformers, on the CPU, with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def context(self) -> int:
        """Most tokens of a conversation, the answer included."""
        return int(self.model.config.max_position_embeddings)

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Stream the next assistant turn, in pieces of text as they are made.

        Raises:
            PixelError: the messages are longer than the model's context.
        """
        import torch

        tokens = encode_messages(self.tokenizer, messages)
        room = self.context - len(tokens)
        if room < 1:
            raise PixelError(
                f"The prompt has {len(tokens)} tokens; the model's context is {self.context}.",
                hint="Shorten the prompt.",
            )
        generator = torch.Generator().manual_seed(sampling.seed)
        return _stream(
            self,
            tokens,
            most=min(sampling.max_new_tokens, room),
            choose=lambda logits: _sample(logits, sampling, generator),
        )


def open_speaker(wanted: CheckpointRef | str, lake: Callable[[], Lake]) -> Speaker:
    """The model of a checkpoint, or of a folder that plain transformers load: an export.

    Args:
        wanted: A reference, a folder's path (`./…`, `/…`), or what `CheckpointRef.resolve` understands.
        lake: Opens the lake, where it is needed.

    Raises:
        CheckpointNotFoundError, CheckpointCorruptError: see their classes.
        PixelError: the folder holds no model.
    """
    prepare_environment()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    silence_libraries()
    if isinstance(wanted, str) and is_path(wanted):
        folder = Path(wanted).expanduser()
        if not (folder / "config.json").is_file() or not [*folder.glob("*.safetensors")]:
            raise PixelError(
                f"{folder} holds no model: it has no config.json, or no weights as safetensors.",
                hint="Name a folder that `pixel export --format mixtral` wrote, or a checkpoint of the lake.",
            )
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", local_files_only=True, use_safetensors=True
        )
        return Speaker(model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True))
    from pixel_pipeline.training.model.factory import open_checkpoint

    store = lake()
    ref = CheckpointRef.resolve(store, wanted) if isinstance(wanted, str) else wanted
    with open_checkpoint(store, ref, home=get_settings().home, device=torch.device("cpu")) as opened:
        return Speaker(
            opened.model.model, AutoTokenizer.from_pretrained(opened.folder, local_files_only=True)
        )


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
    """Stream a checkpoint's answer to one user message; see `open_speaker` and `Sampling` for the arguments and errors."""
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    return open_speaker(checkpoint, lambda: lake).answer([{"role": "user", "content": prompt}], sampling)


def encode_messages(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The conversation and the head of the assistant's turn, by the tokenizer's chat template."""
    tokens: list[int] = tokenizer.apply_chat_template(
        [*messages], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return tokens


def end_tokens(model: Any) -> set[int]:
    """Tokens that end an answer; some models have several."""
    ends = model.generation_config.eos_token_id
    return {*ends} if isinstance(ends, list) else {ends}


def _stream(
    speaker: Speaker, tokens: list[int], *, most: int, choose: Callable[["Tensor"], int]
) -> Iterator[str]:
    import torch

    model, tokenizer = speaker.model, speaker.tokenizer
    past, fresh, made, shown, ends = None, tokens, list[int](), "", end_tokens(model)
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


def _sample(logits: "Tensor", sampling: Sampling, generator: "torch.Generator") -> int:
    """Nucleus sampling (Holtzman et al., 2020, arXiv:1904.09751) of one token from [vocabulary] logits."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities, order = (logits.float() / sampling.temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities
    kept = probabilities.masked_fill(before >= sampling.top_p, 0.0)
    return int(order[kept.multinomial(1, generator=generator)])
