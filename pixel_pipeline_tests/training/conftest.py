"""A lake with tiny shards, and a configuration that trains on them in a second or two."""

from pathlib import Path

import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.config.shapes import ModelShape
from pixel_pipeline.training.runtime.environment import prepare_environment
from pixel_pipeline_tests.training.base.models import write_base
from pixel_pipeline_tests.training.shards import write_shards

prepare_environment()

TINY = ModelShape(
    hidden_size=32, intermediate_size=48, layers=2, attention_heads=2, key_value_heads=1, head_dim=16
)


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig(
        preset="tiny",
        shape=TINY,
        steps=12,
        rows_per_step=4,
        learning_rate=1e-2,
        warmup_steps=2,
        validation_rows=6,
        validations=2,
        log_every_seconds=0,
        checkpoint_every_seconds=1e6,
    )


@pytest.fixture
def manifest_key(lake: Lake) -> str:
    return write_shards(lake)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def base(lake: Lake, manifest_key: str, tmp_path: Path) -> Path:
    """A base model with the tokenizer of the shards."""
    tokenizer = ShardManifest.load(lake.data, manifest_key).tokenizer
    folder = write_base(tmp_path / "base", kind="llama", vocab_size=tokenizer.vocab_size, num_hidden_layers=2)
    (folder / "tokenizer.json").write_bytes(lake.data.get(tokenizer.key))
    return folder


@pytest.fixture
def adapted(config: TrainingConfig, base: Path) -> TrainingConfig:
    return config.model_copy(
        update={
            "base": str(base),
            "adapters": AdaptersConfig(experts=4, rank=4, alpha=8, dropout=0.1),
            "rows_per_micro_batch": 3,
        }
    )
