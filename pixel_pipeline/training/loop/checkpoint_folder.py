"""Writes and reads a checkpoint's folder: model and tokenizer in the layout of transformers, AdamW as safetensors, the rest as JSON.

Nothing is pickled. Imports torch.
"""

from collections.abc import Mapping
from pathlib import Path
import shutil

import orjson
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

from pixel_pipeline.tokens.chat_template import END, JINJA, PAD
from pixel_pipeline.training.checkpoints.run_state import STATE_FILE, RunState
from pixel_pipeline.training.model.trained_model import TrainedModel

OPTIMIZER_FILE = "optimizer.safetensors"
OptimizerState = Mapping[str, Mapping[str, Tensor]]
"""AdamW's tensors (`step`, `exp_avg`, `exp_avg_sq`) by parameter name."""


def write_checkpoint_folder(
    folder: Path,
    *,
    model: TrainedModel,
    optimizer: OptimizerState,
    state: RunState,
    tokenizer: Path | Mapping[str, Path],
) -> None:
    """Write all files of a checkpoint except its manifest into an empty folder.

    Args:
        tokenizer: The corpus's own `tokenizer.json`, or the files of a base model's tokenizer by name.
    """
    model.write(folder)
    if isinstance(tokenizer, Path):
        _write_tokenizer(folder, tokenizer_file=tokenizer, context_length=model.context_length)
    else:
        for name, path in tokenizer.items():
            shutil.copyfile(path, folder / name)
    flat = {f"{name}/{key}": value for name, tensors in optimizer.items() for key, value in tensors.items()}
    save_file({key: value.contiguous() for key, value in flat.items()}, folder / OPTIMIZER_FILE)
    content = {**state.to_json(), "threads": torch.get_num_threads()}
    (folder / STATE_FILE).write_bytes(
        orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    )


def _write_tokenizer(folder: Path, *, tokenizer_file: Path, context_length: int) -> None:
    """Write `tokenizer.json` unchanged and the configuration that `AutoTokenizer` needs, with the ChatML template."""
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
    """Read AdamW's tensors by parameter name."""
    state: dict[str, dict[str, Tensor]] = {}
    for path, value in load_file(folder / OPTIMIZER_FILE).items():
        name, _, key = path.rpartition("/")
        state.setdefault(name, {})[key] = value
    return state
