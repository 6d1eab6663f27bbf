"""A run's state as files: model and tokenizer as transformers lays them out, AdamW as safetensors, the rest as JSON.

Nothing is pickled. Imports torch.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path

import orjson
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor
from transformers import MixtralForCausalLM

from pixel_pipeline.tokens.chat_template import END, JINJA, PAD
from pixel_pipeline.training.run_state import MODEL_FILE, STATE_FILE, RunState

OPTIMIZER_FILE = "optimizer.safetensors"
INFERENCE_FILES = (
    "config.json",
    "generation_config.json",
    MODEL_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
)

OptimizerState = Mapping[str, Mapping[str, Tensor]]
"""AdamW's tensors (`step`, `exp_avg`, `exp_avg_sq`) of each parameter, by the parameter's name."""


def write_checkpoint_folder(
    folder: Path,
    *,
    model: MixtralForCausalLM,
    optimizer: OptimizerState,
    state: RunState,
    tokenizer_file: Path,
) -> None:
    """Write all files of a checkpoint but its manifest into an empty folder."""
    write_model(folder, model=model)
    write_tokenizer(
        folder, tokenizer_file=tokenizer_file, context_length=model.config.max_position_embeddings
    )
    flat = {f"{name}/{key}": value for name, tensors in optimizer.items() for key, value in tensors.items()}
    save_file({key: value.contiguous() for key, value in flat.items()}, folder / OPTIMIZER_FILE)
    content = {**state.to_json(), "threads": torch.get_num_threads(), "rng": _rng_state()}
    (folder / STATE_FILE).write_bytes(
        orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    )


def write_model(folder: Path, *, model: MixtralForCausalLM) -> None:
    """`config.json` and weights under Mixtral's own names (`block_sparse_moe.experts.E.w1`), as other servers read them."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    content = orjson.loads(path.read_bytes())
    # Readers older than transformers 5 look for it at the top level only.
    content["rope_theta"] = content["rope_parameters"]["rope_theta"]
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))


def write_tokenizer(folder: Path, *, tokenizer_file: Path, context_length: int) -> None:
    """`tokenizer.json` as it is, and what `AutoTokenizer` needs beside it, with the ChatML template."""
    (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    content = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "pad_token": PAD,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "chat_template": JINJA,
    }
    (folder / "tokenizer_config.json").write_bytes(
        orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    )


def read_optimizer(folder: Path) -> dict[str, dict[str, Tensor]]:
    """AdamW's tensors by parameter name."""
    state: dict[str, dict[str, Tensor]] = {}
    for path, value in load_file(folder / OPTIMIZER_FILE).items():
        name, _, key = path.rpartition("/")
        state.setdefault(name, {})[key] = value
    return state


def restore_rng(folder: Path) -> None:
    """Put torch's random generators where they were when the checkpoint was written."""
    states = orjson.loads((folder / STATE_FILE).read_bytes())["rng"]
    torch.set_rng_state(_decode(states["torch_cpu"]))
    if "torch_cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(_decode(states["torch_cuda"]))


def _rng_state() -> dict[str, str]:
    states = {"torch_cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["torch_cuda"] = torch.cuda.get_rng_state()
    return {name: b64encode(state.numpy().tobytes()).decode() for name, state in states.items()}


def _decode(text: str) -> Tensor:
    return torch.frombuffer(bytearray(b64decode(text)), dtype=torch.uint8)
