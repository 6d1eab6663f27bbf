"""Checkpoints of tiny runs in a lake: good ones, and such that a gate does not let through."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints.run_state import ADAPTER_FILE
from pixel_pipeline.training.checkpoints.store import CheckpointRef, download, publish
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.training.base.models import write_base

Train = Callable[..., CheckpointRef]
Changed = Callable[[CheckpointRef, str, Callable[[str, Tensor], Tensor]], CheckpointRef]


@pytest.fixture
def adapted(config: TrainingConfig, lake: Lake, manifest_key: str, tmp_path: Path) -> TrainingConfig:
    """Adapters on a base model with the tokenizer of the shards; one expert sees each token."""
    tokenizer = ShardManifest.load(lake.data, manifest_key).tokenizer
    folder = write_base(
        tmp_path / "base",
        kind="llama",
        vocab_size=tokenizer.vocab_size,
        num_hidden_layers=2,
        max_position_embeddings=1024,
    )
    (folder / "tokenizer.json").write_bytes(lake.data.get(tokenizer.key))
    adapters = AdaptersConfig(experts=4, experts_per_token=1, rank=4, alpha=8)
    return config.model_copy(update={"base": str(folder), "adapters": adapters})


@pytest.fixture
def trained(lake: Lake, manifest_key: str, tmp_path: Path) -> Train:
    """Train, and give the last checkpoint."""

    def run(config: TrainingConfig, **changes: Any) -> CheckpointRef:
        return train(
            config.model_copy(update=changes),
            lake,
            manifest_key,
            report=lambda line: None,
            git_revision="abc123",
            home=tmp_path,
        ).checkpoint

    return run


@pytest.fixture
def changed(lake: Lake, tmp_path: Path) -> Changed:
    """Publish a checkpoint whose adapters are changed, as a run of another name."""

    def publish_changed(
        ref: CheckpointRef, run: str, change: Callable[[str, Tensor], Tensor]
    ) -> CheckpointRef:
        folder = tmp_path / run
        folder.mkdir()
        download(lake, ref, folder=folder)
        tensors = load_file(folder / ADAPTER_FILE)
        save_file({name: change(name, tensor) for name, tensor in tensors.items()}, folder / ADAPTER_FILE)
        new = CheckpointRef(run=run, step=ref.step)
        publish(lake, new, folder=folder, final=True)
        return new

    return publish_changed


def worse(name: str, tensor: Tensor) -> Tensor:
    """Adapters that unlearn what they have learnt."""
    return tensor * -3 if name.endswith("lora_B") else tensor


def without_work(name: str, tensor: Tensor) -> Tensor:
    """Routers of opposite opinions: two experts share all tokens, two have none."""
    if not name.endswith("router.weight"):
        return tensor
    opinion = torch.linspace(-1, 1, tensor.size(1))
    return torch.stack([opinion, -opinion, 0 * opinion, 0.5 * opinion])


def enormous(name: str, tensor: Tensor) -> Tensor:
    """Changes beside which the base is nothing: neither fp32 nor bf16 has digits enough for the merged weights."""
    return tensor * 1e4 if name.endswith("lora_B") else tensor
