"""Sources of a configuration, and their order."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.settings import Settings
from pixel_pipeline.tokens.shards import ShardManifest, SplitManifest, TokenizerRef
from pixel_pipeline.training.config.recipes import LEAST_STEPS, PREFERENCES, PROFILES, Priority
from pixel_pipeline.training.config.resolve import read_config_file, training_config
from pixel_pipeline.training.errors import TrainingConfigError


def manifest(*, rows: int = 4000, base: str | None = None) -> ShardManifest:
    return ShardManifest(
        dataset_version="v",
        sequence_length=512,
        tokenizer=TokenizerRef(key="t", sha256="0", digest="0", vocab_size=400, pad_id=0, eos_id=2),
        splits={"train": SplitManifest(rows=rows, tokens=rows * 500, loss_tokens=rows * 200, shards=[])},
        families={},
        base=base,
    )


def settings(**values: Any) -> Settings:
    return Settings(**values)


@given(
    rows=st.integers(1, 100_000),
    priority=st.sampled_from(Priority),
    base=st.sampled_from([None, "smollm2"]),
)
def test_a_priority_sets_the_epochs(rows: int, priority: Priority, base: str | None) -> None:
    config = training_config(settings(), manifest(rows=rows, base=base), priority=priority)
    epochs = PREFERENCES[priority].epochs
    read = config.steps * config.rows_per_step
    assert 0 <= read - epochs * rows < config.rows_per_step
    assert config.steps >= min(LEAST_STEPS, epochs * rows)
    assert config.warmup_steps < config.steps
    # Hours do not change the run.
    hurried = training_config(settings(training_hours=1), manifest(rows=rows, base=base), priority=priority)
    assert hurried == config


def test_without_a_priority_the_profile_decides() -> None:
    assert training_config(settings(), manifest()) == PROFILES["demo"]
    assert training_config(settings(profile="h100"), manifest()) == PROFILES["h100"]
    short = training_config(settings(training_steps=5), manifest())
    assert (short.steps, short.warmup_steps) == (5, 4)


def test_adapters_have_their_own_defaults() -> None:
    for config in (
        training_config(settings(), manifest(base="smollm2")),
        training_config(settings(base_model="smollm2"), manifest()),
        training_config(settings(), manifest(), overrides={"base": "smollm2"}),
    ):
        assert (config.base, config.weight_decay, config.device) == ("smollm2", 0.0, "auto")
        assert (config.learning_rate, config.rows_per_step, config.steps) == (5e-4, 32, 250)
        assert (config.adapters.rank, config.adapters.alpha) == (16, 32)
    assert training_config(settings(profile="h100"), manifest(base="smollm2")).device == "h100"
    assert training_config(settings(), manifest(base="smollm2"), overrides={"base": None}).base is None


def test_priorities_differ() -> None:
    fast, balanced, quality, memory = (
        training_config(settings(priority=priority.value), manifest(base="smollm2")) for priority in Priority
    )
    assert fast.learning_rate > balanced.learning_rate > quality.learning_rate
    assert fast.validations < balanced.validations < quality.validations
    assert quality.early_stopping_patience
    assert memory.adapters.rank < balanced.adapters.rank
    assert (memory.rows_per_micro_batch, memory.checkpoint_activations) == (1, True)
    assert fast.steps < balanced.steps < quality.steps
    # An option wins over the setting.
    assert training_config(settings(priority="fast"), manifest(base="smollm2"), priority="quality") == quality


def test_explicit_fields_override_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("learning_rate: 1e-4\nrows_per_step: 10\nadapters: {rank: 4, experts: 2}\n")
    overrides = read_config_file(path)
    config = training_config(settings(), manifest(base="smollm2"), overrides=overrides)
    assert (config.learning_rate, config.rows_per_step, config.steps) == (1e-4, 10, 800)
    assert (config.adapters.rank, config.adapters.alpha, config.adapters.experts) == (4, 8, 2)
    config = training_config(settings(training_steps=7), manifest(base="b"), overrides={"steps": 9})
    assert config.steps == 9
    assert training_config(settings(training_steps=7), manifest(base="b")).steps == 7


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("stepz: 3", "stepz"),
        ("- 3", "no fields"),
        ("a: [", "line 1"),
        ("steps: many", "steps"),
        ("rows_per_step: []", "rows_per_step"),
        ("adapters: 3", "adapters"),
        ("adapters: {rank: x}", "adapters.rank"),
        ("learning_rate: -1", "learning_rate"),
    ],
)
def test_bad_files_name_the_problem(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(TrainingConfigError, match=problem):
        training_config(settings(), manifest(base="b"), overrides=read_config_file(path))
    with pytest.raises(TrainingConfigError, match="cannot be read"):
        read_config_file(tmp_path / "none.yaml")


def test_the_curriculum_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "curriculum.yaml"
    path.write_text("stages: [{name: first, share: 0.5}, {name: second, share: 0.5}]")
    config = training_config(settings(curriculum_file=path), manifest(base="b"))
    assert [stage.name for stage in config.curriculum.stages] == ["first", "second"]
    with pytest.raises(TrainingConfigError):
        training_config(settings(curriculum_file=tmp_path / "none"), manifest(base="b"))


def test_an_empty_split_is_reported_by_the_trainer() -> None:
    config = training_config(settings(), replace(manifest(base="b"), splits={}))
    assert config.steps == 1
