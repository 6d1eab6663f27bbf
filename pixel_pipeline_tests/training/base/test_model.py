"""A base model is read layer by layer, and what does not fit together is refused by its name."""

from collections.abc import Callable
import os
from pathlib import Path
import shutil
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pytest
from safetensors.torch import load_file, save_file
import torch
from transformers import AutoModelForCausalLM

from pixel_pipeline.registry.base_models import BaseModelCorruptError, BaseModelError
from pixel_pipeline.training.base.architecture import HEAD
from pixel_pipeline.training.base.model import open_folder
from pixel_pipeline.training.base.safetensors_writer import TensorSpec, plan_shards, write_shards
from pixel_pipeline_tests.training.base.models import write_base, write_tokenizer

TENSOR = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("shard", ["1GB", 20_000])
@pytest.mark.parametrize(
    "sizes", [{}, {"kind": "llama", "tie_word_embeddings": True, "head_dim": 12}], ids=str
)
def test_all_tensors_are_read_by_layer(tmp_path: Path, shard: str, sizes: dict[str, Any]) -> None:
    base = open_folder(write_base(tmp_path / "base", shard=shard, **sizes))
    state = AutoModelForCausalLM.from_pretrained(base.folder).state_dict()
    read = base.outer_tensors()
    for layer in range(base.layers):
        read |= {f"model.layers.{layer}.{name}": value for name, value in base.layer_tensors(layer).items()}
    assert read.keys() == state.keys() - ({HEAD} if base.config.tie_word_embeddings else set())
    assert all(torch.equal(value, state[name]) for name, value in read.items())
    assert base.parameters == sum(value.numel() for value in read.values())
    assert (base.dtype, len({*base.shards.values()}) > 1) == ("F32", shard != "1GB")


def test_the_digest_is_of_weights_and_configuration(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    digest = open_folder(folder).digest
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("other words")
    assert open_folder(tmp_path / "copy").digest == digest
    flip(folder / "model.safetensors")
    assert open_folder(folder).digest != digest


def flip(path: Path, place: int = -5) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def configured(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), **changes}))

    return edit


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return edit


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (as_pickle, r"(?s)pytorch_model\.bin, a pickle.*save_pretrained"),
        (lambda folder: (folder / "model.safetensors").unlink(), "neither model.safetensors nor"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"(?s)has no tokenizer\.json.*AutoTokenizer"),
        (lambda folder: (folder / "config.json").write_text("{"), "is no configuration"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is not a tokenizer"),
        (lambda folder: write_tokenizer(folder, size=310), r"ids up to 309, the embedding 300 rows"),
        (lambda folder: write_tokenizer(folder, size=260), r"ids up to 259, the embedding 300 rows"),
        (configured(eos_token_id=300), "eos_token_id 300"),
        (configured(model_type="qwen2"), "'qwen2' model"),
        (configured(model_type="llama", attention_bias=True), "has attention_bias"),
        (configured(quantization_config={"quant_method": "fp8"}), "quantized"),
        (
            lambda folder: os.truncate(folder / "model.safetensors", 10_000),
            r"model\.safetensors is missing, truncated",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b""),
            r"model\.safetensors is missing, truncated",
        ),
        (weights(lambda tensors: tensors.pop(TENSOR)), f"lacks {TENSOR}"),
        (
            weights(lambda tensors: tensors.update({TENSOR: torch.zeros(2, 2)})),
            rf"{TENSOR} in .* is \[2, 2\]",
        ),
        (
            weights(lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(2)})),
            "bias",
        ),
        (weights(lambda tensors: tensors.update({TENSOR: tensors[TENSOR].to(torch.int8)})), "of type I8"),
        (configured(tie_word_embeddings=True), "Set tie_word_embeddings to false"),
    ],
    ids=range(19),
)
def test_what_does_not_fit_is_refused(tmp_path: Path, edit: Callable[[Path], None], message: str) -> None:
    folder = write_base(tmp_path / "base")
    edit(folder)
    with pytest.raises(BaseModelError, match=message):
        open_folder(folder)


def test_harmless_leftovers_are_passed_over(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", tie_word_embeddings=True)

    def leave(tensors: dict[str, torch.Tensor]) -> None:
        tensors[HEAD] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    weights(leave)(folder)
    (folder / "consolidated.safetensors").write_bytes(b"the same in other names")
    (folder / "pytorch_model.bin").write_bytes(b"the same as a pickle")
    base = open_folder(folder)
    assert HEAD not in base.outer_tensors()
    assert not {"consolidated.safetensors", "pytorch_model.bin"} & base.files.keys()


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: os.truncate(path, 9), lambda path: path.write_bytes(b"")]
)
def test_a_damaged_shard_is_named(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = write_base(tmp_path / "base", shard=20_000)
    base = open_folder(folder)
    shard = base.shards[TENSOR]
    damage(folder / shard)
    with pytest.raises(BaseModelCorruptError, match=shard):
        open_folder(folder)
    with pytest.raises(BaseModelCorruptError, match=shard):
        base.layer_tensors(1)


@pytest.mark.parametrize(
    "index", ["[]", "{", '{"weight_map": {"a": "../../x.safetensors"}}', '{"weight_map": {"a": 3}}']
)
def test_an_index_of_something_else_is_refused(tmp_path: Path, index: str) -> None:
    folder = write_base(tmp_path / "base", shard=20_000)
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises((BaseModelCorruptError, BaseModelError)):
        open_folder(folder)


@given(
    shapes=st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), min_size=1, max_size=12),
    dtype=st.sampled_from(["bf16", "fp32"]),
    shard_bytes=st.integers(1, 3000),
)
def test_shards_hold_what_was_planned(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]], dtype: Any, shard_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    tensors = {f"t{number}": torch.randn(shape) for number, shape in enumerate(shapes)}
    plan = plan_shards(
        [TensorSpec(name, tuple(value.shape), dtype) for name, value in tensors.items()],
        shard_bytes=shard_bytes,
    )
    digests = write_shards(folder, plan, iter(tensors.items()))
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == {
        name: digest.bytes for name, digest in digests.items()
    }
    read = {name: value for shard in plan for name, value in load_file(folder / shard.name).items()}
    wanted = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], value.to(wanted)) for name, value in tensors.items())
    assert all(
        len(shard.tensors) == 1 or sum(t.bytes for t in shard.tensors) <= shard_bytes for shard in plan
    )
