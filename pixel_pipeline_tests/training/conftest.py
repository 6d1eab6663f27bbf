"""A lake with tiny shards, and a configuration that trains on them in a second or two."""

from pathlib import Path

import pytest

from pixel_pipeline.lake.store import Lake
from pixel_pipeline.training.config import TrainingConfig
from pixel_pipeline.training.environment import prepare_environment
from pixel_pipeline.training.shapes import ModelShape
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
