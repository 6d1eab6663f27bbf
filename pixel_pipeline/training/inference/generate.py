"""Answers messages with a checkpoint or an export, streaming the text. Torch-free until a model is opened."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import is_path
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.runtime.environment import prepare_environment, silence_libraries

Message = Mapping[str, str]
"""`role` and `content`."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters.

    Attributes:
        max_new_tokens: Maximum length of an answer; the model's context may end it earlier.
        temperature: Divides the logits; 0 decodes greedily.
        top_p: Nucleus sampling (Holtzman et al., 2020, arXiv:1904.09751): sample from the smallest set of tokens with this
            share of the probability.
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
    """A transformers model on the CPU, with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def context(self) -> int:
        """Maximum number of tokens of a conversation, including the answer."""
        return int(self.model.config.max_position_embeddings)

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Stream the next assistant turn in pieces of text.

        Raises:
            PixelError: The messages are longer than the model's context.
        """
        import torch
        from transformers import TextIteratorStreamer

        tokens = encode_messages(self.tokenizer, messages)
        room = self.context - len(tokens)
        if room < 1:
            raise PixelError(
                f"The prompt has {len(tokens)} tokens; the model's context is {self.context}.",
                hint="Shorten the prompt.",
            )
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        options: dict[str, Any] = {"max_new_tokens": min(sampling.max_new_tokens, room)}
        if sampling.temperature > 0:
            options |= {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": 0,
            }
        else:
            options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}

        abandoned = Event()

        def run() -> None:
            # Seeding the thread's own call keeps answers reproducible; nothing else draws random numbers meanwhile.
            torch.manual_seed(sampling.seed)
            self.model.generate(
                torch.tensor([tokens]),
                attention_mask=torch.ones(1, len(tokens), dtype=torch.int64),
                pad_token_id=next(iter(end_tokens(self.model))),
                streamer=streamer,
                stopping_criteria=[lambda tokens, scores: torch.full((len(tokens),), abandoned.is_set())],
                **options,
            )

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run)
            # An error before the end would leave the streamer open.
            running.add_done_callback(lambda future: streamer.end() if future.exception() else None)  # type: ignore[no-untyped-call]
            try:
                yield from streamer
            finally:
                # After Ctrl-C, or if the caller stops reading.
                abandoned.set()
            running.result()


def open_speaker(wanted: CheckpointRef | str, lake: Callable[[], Lake]) -> Speaker:
    """Open the model of a checkpoint, or of an exported folder.

    Args:
        wanted: A reference, the path of a folder (`./…`, `/…`), or a name for `CheckpointRef.resolve`.
        lake: Opens the lake if it is needed.

    Raises:
        CheckpointNotFoundError, CheckpointCorruptError: See their classes.
        PixelError: The folder contains no model.
    """
    prepare_environment()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    silence_libraries()
    if isinstance(wanted, str) and is_path(wanted):
        folder = Path(wanted).expanduser()
        if not (folder / "config.json").is_file() or not [*folder.glob("*.safetensors")]:
            raise PixelError(
                f"{folder} contains no model: config.json or the safetensors files are missing.",
                hint="Give a folder written by `pixel export --format mixtral`, or a checkpoint of the lake.",
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
    """Tokens of the conversation and the start of the assistant's turn, by the tokenizer's chat template."""
    tokens: list[int] = tokenizer.apply_chat_template(
        [*messages], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return tokens


def end_tokens(model: Any) -> set[int]:
    """Tokens that end an answer."""
    ends = model.generation_config.eos_token_id
    return {*ends} if isinstance(ends, list) else {ends}
