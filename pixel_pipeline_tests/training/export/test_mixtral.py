"""The exported Mixtral is the model that was trained, whatever its shape."""

from pathlib import Path
from typing import Any
import weakref

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pytest
from safetensors.torch import load_file
import torch
from transformers import AutoTokenizer, GenerationConfig, MixtralConfig

from pixel_pipeline.training.base.model import BaseModel, open_folder
from pixel_pipeline.training.export.adapter import Adapter
from pixel_pipeline.training.export.mixtral import export_mixtral, merged_tensors
from pixel_pipeline.training.export.reference import reference_logits
from pixel_pipeline.training.export.verify import Verification, verify_export
from pixel_pipeline_tests.examples import examples
from pixel_pipeline_tests.training.base.models import write_base
from pixel_pipeline_tests.training.export.adapters import write_adapter

ROWS, LENGTH = 3, 40
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "one key head": {"num_key_value_heads": 1},
    "every head its own key": {"num_key_value_heads": 4},
    "head_dim beside hidden / heads": {"head_dim": 12},
    "odd vocabulary": {"vocab_size": 307},
    "tied": {"tie_word_embeddings": True},
    "sliding window": {"sliding_window": 7},
    "no window": {"sliding_window": None},
    "eps and theta": {"rms_norm_eps": 1e-3, "rope_parameters": {"rope_type": "default", "rope_theta": 321.0}},
    "gelu": {"hidden_act": "gelu"},
}
LLAMAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied, odd": {"tie_word_embeddings": True, "vocab_size": 307, "head_dim": 12, "num_key_value_heads": 1},
    "llama3 positions": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
    "yarn positions": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
}


def rows_of(base: BaseModel, *, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(base.config.vocab_size, (LENGTH,), generator=generator) for _ in range(ROWS)]


def verified(
    base: BaseModel, adapter: Adapter, target: Path, *, served: float = 2e-5, **options: Any
) -> Verification:
    export_mixtral(base, adapter, target, **options)
    result = verify_export(target, reference_logits(base, adapter, dtype=torch.float64), rows_of(base))
    if result.dtype == "fp32":
        # In fp32 arithmetic too, on sizes as small as these.
        assert result.served_logit_difference <= served
    return result


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mistral_is_exported_exactly(tmp_path: Path, shape: str) -> None:
    base = open_folder(write_base(tmp_path / "base", **SHAPES[shape]))
    result = verified(base, write_adapter(tmp_path / "adapter", base), tmp_path / "out", dtype="fp32")
    assert result.max_logit_difference <= 2e-5
    assert result.tokens == ROWS * LENGTH
    assert result.same_choice == 1
    assert result.passed


@pytest.mark.parametrize("shape", LLAMAS)
def test_a_llama_is_exported_exactly(tmp_path: Path, shape: str) -> None:
    base = open_folder(write_base(tmp_path / "base", kind="llama", **LLAMAS[shape]))
    result = verified(base, write_adapter(tmp_path / "adapter", base), tmp_path / "out", dtype="fp32")
    assert result.max_logit_difference <= 2e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [1]},
        {"layers": []},
        {"attention": False},
        {"experts": 3, "experts_per_token": 1},
        {"experts": 3, "experts_per_token": 3, "layers": [0, 2]},
        {"experts": 1, "experts_per_token": 1, "rank": 9},
    ],
    ids=str,
)
def test_adapters_of_every_kind_are_exported_exactly(tmp_path: Path, changes: dict[str, Any]) -> None:
    base = open_folder(write_base(tmp_path / "base"))
    result = verified(
        base, write_adapter(tmp_path / "adapter", base, **changes), tmp_path / "out", dtype="fp32"
    )
    assert result.max_logit_difference <= 2e-5


@examples(5)
@given(
    kind=st.sampled_from(["llama", "mistral"]),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 3), (4, 4)]),
    head_dim=st.sampled_from([2, 6, 16]),
    width=st.integers(4, 8),
    # transformers' grouped products want rows of whole 16 bytes.
    inner=st.integers(1, 18).map(lambda count: 4 * count),
    layers=st.integers(1, 3),
    vocabulary=st.integers(290, 400),
    tied=st.booleans(),
    experts=st.integers(1, 5),
    data=st.data(),
)
def test_any_shape_is_exported_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    heads: tuple[int, int],
    head_dim: int,
    width: int,
    inner: int,
    layers: int,
    vocabulary: int,
    tied: bool,
    experts: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("shape")
    base = open_folder(
        write_base(
            folder / "base",
            kind=kind,
            # Llama's configuration wants a multiple of the heads.
            hidden_size=width * heads[0] * 4,
            num_attention_heads=heads[0],
            num_key_value_heads=heads[1],
            head_dim=head_dim,
            intermediate_size=inner,
            num_hidden_layers=layers,
            vocab_size=vocabulary,
            tie_word_embeddings=tied,
            initializer_range=0.1,
            shard=data.draw(st.sampled_from(["1GB", 20_000])),
        )
    )
    adapter = write_adapter(
        folder / "adapter",
        base,
        experts=experts,
        experts_per_token=data.draw(st.integers(1, experts)),
        layers=data.draw(st.lists(st.integers(0, layers - 1), unique=True)),
        attention=data.draw(st.booleans()),
        rank=data.draw(st.integers(1, 8)),
    )
    result = verified(
        base,
        adapter,
        folder / "out",
        dtype="fp32",
        served=5e-5,
        shard_bytes=data.draw(st.sampled_from([10**9, 10**4])),
    )
    assert result.max_logit_difference <= 2e-5


def test_bf16_is_close_and_half_the_size(tmp_path: Path) -> None:
    base = open_folder(write_base(tmp_path / "base", dtype="bfloat16"))
    adapter = write_adapter(tmp_path / "adapter", base)
    result = verified(base, adapter, tmp_path / "out", dtype="bf16")
    assert result.dtype == "bf16"
    assert 0 < result.mean_kl < 0.02
    exact = verified(base, adapter, tmp_path / "exact", dtype="fp32")
    assert exact.max_logit_difference <= 2e-5
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("out", "exact")]
    assert 1.9 < sizes[1] / sizes[0] < 2.1


def test_small_changes_survive_a_merge_in_fp32(tmp_path: Path) -> None:
    """Of bf16 weights: merged in bf16, changes a thousandth of the weights' size would mostly vanish."""
    base = open_folder(write_base(tmp_path / "base", dtype="bfloat16"))
    adapter = write_adapter(tmp_path / "adapter", base, size=1e-3)
    assert verified(base, adapter, tmp_path / "out", dtype="fp32").max_logit_difference <= 2e-5


def test_names_configuration_tokenizer_and_template(tmp_path: Path) -> None:
    base = open_folder(
        write_base(tmp_path / "base", vocab_size=307, head_dim=12, sliding_window=64, attention_dropout=0.25)
    )
    said: list[str] = []
    record = export_mixtral(
        base,
        write_adapter(tmp_path / "adapter", base),
        tmp_path / "out",
        report=said.append,
        shard_bytes=50_000,
    )
    folder = tmp_path / "out"
    assert said[0].startswith(f"writing {record.bytes:,} bytes")
    assert record.bytes == sum(path.stat().st_size for path in folder.iterdir() if path.name != "export.json")
    index = orjson.loads((folder / "model.safetensors.index.json").read_bytes())["weight_map"]
    assert len({*index.values()}) > 3
    assert {name for name in index if name.startswith("model.layers.1.")} == {
        *(f"model.layers.1.self_attn.{name}_proj.weight" for name in "qkvo"),
        "model.layers.1.input_layernorm.weight",
        "model.layers.1.post_attention_layernorm.weight",
        "model.layers.1.block_sparse_moe.gate.weight",
        *(f"model.layers.1.block_sparse_moe.experts.{e}.w{n}.weight" for e in range(4) for n in (1, 2, 3)),
    }
    config = orjson.loads((folder / "config.json").read_bytes())
    for field, value in base.config.to_dict().items():
        if field not in {
            "architectures",
            "model_type",
            "dtype",
            "transformers_version",
            "id2label",
            "label2id",
        }:
            assert config[field] == value, field
    assert (
        config["rope_theta"]
        == config["rope_parameters"]["rope_theta"]
        == base.config.rope_parameters["rope_theta"]
    )
    assert (config["head_dim"], config["vocab_size"], config["sliding_window"]) == (12, 307, 64)
    assert (config["num_local_experts"], config["num_experts_per_tok"]) == (4, 2)
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")
    assert isinstance(MixtralConfig.from_pretrained(folder), MixtralConfig)
    assert GenerationConfig.from_pretrained(folder).eos_token_id == 2
    messages = [{"role": "user", "content": "calm sleep"}]
    texts = [
        AutoTokenizer.from_pretrained(place).apply_chat_template(messages, tokenize=False)
        for place in (base.folder, folder)
    ]
    assert texts[0] == texts[1] == "<|im_start|>user\ncalm sleep<|im_end|>\n"


def test_layers_without_experts_have_a_zero_router_and_equal_experts(tmp_path: Path) -> None:
    base = open_folder(write_base(tmp_path / "base"))
    adapter = write_adapter(tmp_path / "adapter", base, layers=[0], attention=False)
    export_mixtral(base, adapter, tmp_path / "out", dtype="fp32")
    written = open_tensors(tmp_path / "out")
    prefix = "model.layers.2.block_sparse_moe."
    assert not written[f"{prefix}gate.weight"].any()
    for expert in range(4):
        assert torch.equal(
            written[f"{prefix}experts.{expert}.w1.weight"], base.layer_tensors(2)["mlp.gate_proj.weight"]
        )


def test_tensors_are_made_one_by_one(tmp_path: Path) -> None:
    base = open_folder(write_base(tmp_path / "base", num_hidden_layers=6))
    adapter = write_adapter(tmp_path / "adapter", base)
    made: list[weakref.ref[torch.Tensor]] = []
    most = 0
    for _, tensor in merged_tensors(base, adapter):
        made = [reference for reference in made if reference() is not None]
        most = max(most, len(made))
        made.append(weakref.ref(tensor))
        del tensor
    # The one before, the two norms of the layer, and a weight of the base that experts are merged from.
    assert most <= 5


def open_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}
