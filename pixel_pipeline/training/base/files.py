"""The files of a model folder that belong to the model. Torch-free."""

from pathlib import Path

import orjson

from pixel_pipeline.registry.base_models import BaseModelCorruptError, BaseModelError, FileDigest
from pixel_pipeline.training.data.cache import file_sha256

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_FILES = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "tekken.json",
    "chat_template.jinja",
)
SIDE_FILES = ("generation_config.json", *TOKENIZER_FILES)
"""Taken along into every copy and export where they are there."""
NOTES = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files of the model, sorted: those of the index, else the single file.

    Other files, such as the `consolidated.safetensors` of some makers, contain the same weights under other names.

    Raises:
        BaseModelError: there are none, or only pickles, which can run code when loaded.
        BaseModelCorruptError: a file of the index is missing.
    """
    if not (folder / INDEX).exists():
        if (folder / SINGLE).exists():
            return [SINGLE]
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            raise BaseModelError(
                f"{folder} has its weights as {pickles[0]}, a pickle: loading it could run any code. Only safetensors are taken.",
                hint="Take the model's safetensors files, or convert it on a machine that may run its code: "
                "`AutoModelForCausalLM.from_pretrained(…, weights_only=True).save_pretrained(FOLDER)`.",
            )
        raise BaseModelError(
            f"{folder} has neither {SINGLE} nor {INDEX}.",
            hint="Give the folder that holds the model's safetensors files and config.json.",
        )
    try:
        names = sorted({*orjson.loads((folder / INDEX).read_bytes())["weight_map"].values()})
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
        raise BaseModelCorruptError(f"{folder / INDEX} is no index of safetensors.", hint=AGAIN) from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise BaseModelCorruptError(
                f"{folder / INDEX} names files that are no safetensors beside it.", hint=AGAIN
            )
        if not (folder / name).exists():
            raise BaseModelCorruptError(
                f"The shard {name} that the index names is not in {folder}.", hint=AGAIN
            )
    return names


AGAIN = "Copy or download the model again, and check that all its files have arrived."


def model_files(folder: Path) -> list[str]:
    """Names of all files of a model to keep: weights, index, configuration, tokenizer, template, licence.

    Raises:
        BaseModelError, BaseModelCorruptError: see `weight_files`; config.json or tokenizer.json is missing.
    """
    names = weight_files(folder)
    for needed in (CONFIG, TOKENIZER):
        if not (folder / needed).exists():
            raise BaseModelError(
                f"{folder} has no {needed}.",
                hint="Take it from where the weights come from."
                if needed == CONFIG
                else "Write one with `AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`.",
            )
    others = [name for name in (INDEX, CONFIG, *SIDE_FILES, *NOTES) if (folder / name).is_file()]
    return [*names, *others]


def file_digests(folder: Path, names: list[str]) -> dict[str, FileDigest]:
    """Digests of files in a folder."""
    return {
        name: FileDigest(sha256=file_sha256(folder / name), bytes=(folder / name).stat().st_size)
        for name in names
    }
