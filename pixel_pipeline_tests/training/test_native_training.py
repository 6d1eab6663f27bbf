"""Training of existing mixtures of experts as a whole."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.registry.base_models import BaseModelCorruptError
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.add import add_base
from pixel_pipeline.training.base.model import open_folder
from pixel_pipeline.training.checkpoints.store import download
from pixel_pipeline.training.config.adapters import ExpertDomains
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import TrainingConfigError
from pixel_pipeline.training.model.from_scratch import load_model
from pixel_pipeline.training.planning.measure import first_micro_batch
from pixel_pipeline.training.planning.memory import MicroBatch
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.training.base.models import write_tokenizer

SIZES = {
    "mixtral": {"num_local_experts": 4},
    "olmoe": {"num_experts": 4},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 24, "head_dim": 8},
}
CPU = torch.device("cpu")


@pytest.fixture(params=SIZES)
def mixture(request: pytest.FixtureRequest, lake: Lake, manifest_key: str, tmp_path: Path) -> Path:
    return write_mixture(request.param, lake=lake, manifest_key=manifest_key, folder=tmp_path / request.param)


def write_mixture(kind: str, *, lake: Lake, manifest_key: str, folder: Path) -> Path:
    """A random mixture written by transformers, with the tokenizer of the shards."""
    tokenizer = ShardManifest.load(lake.data, manifest_key).tokenizer
    torch.manual_seed(4)
    make: Any = AutoModelForCausalLM
    make.from_config(
        AutoConfig.for_model(
            kind,
            vocab_size=tokenizer.vocab_size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_experts_per_tok=2,
            max_position_embeddings=128,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            **SIZES[kind],
        )
    ).save_pretrained(folder)
    write_tokenizer(folder, size=tokenizer.vocab_size)
    (folder / "tokenizer.json").write_bytes(lake.data.get(tokenizer.key))
    return folder


def test_a_mixture_learns_and_transformers_still_loads_it(
    mixture: Path, config: TrainingConfig, lake: Lake, manifest_key: str, tmp_path: Path
) -> None:
    base = add_base(lake, str(mixture), name="there", home=tmp_path, report=lambda line: None)
    assert base.parameters == sum(
        parameter.numel() for parameter in load_model(mixture, device=CPU).parameters()
    )
    result = train(
        config.model_copy(update={"base": "there"}),
        lake,
        manifest_key,
        report=lambda line: None,
        git_revision="abc123",
        home=tmp_path,
    )
    assert result.validation_ratio < 0.95
    (tmp_path / "checkpoint").mkdir()
    download(lake, result.checkpoint, folder=tmp_path / "checkpoint")
    make: Any = AutoModelForCausalLM
    plain, found = make.from_pretrained(tmp_path / "checkpoint", output_loading_info=True)
    assert not any(found.values())
    tokens = torch.arange(16).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(
            load_model(tmp_path / "checkpoint", device=CPU).train(False)(tokens).logits,
            plain(tokens).logits,
            atol=1e-5,
            rtol=1e-5,
        )


def test_a_missing_expert_and_adapter_settings_are_refused(
    config: TrainingConfig, lake: Lake, manifest_key: str, tmp_path: Path
) -> None:
    folder = write_mixture("mixtral", lake=lake, manifest_key=manifest_key, folder=tmp_path / "base")
    asked = config.model_copy(
        update={"base": str(folder), "domains": ExpertDomains(domains=("calm",), steps=2), "steps": 3}
    )

    def run(config: TrainingConfig) -> None:
        train(config, lake, manifest_key, report=lambda line: None, git_revision="abc123", home=tmp_path)

    with pytest.raises(TrainingConfigError, match="domains"):
        run(asked)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.block_sparse_moe.experts.2.w1.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert open_folder(folder).native
    # The memory model covers adapters only.
    micro = first_micro_batch(config, base=open_folder(folder), row_tokens=64, device=CPU)
    assert micro == MicroBatch(config.rows_per_step, False)
    with pytest.raises(BaseModelCorruptError, match="missing"):
        run(asked.model_copy(update={"domains": None}))
