"""Runs that train adapters on a base model: checkpoints, windows, resuming, comparison, errors."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st
import orjson
import pytest
import torch

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.model import open_folder
from pixel_pipeline.training.checkpoints.result import TrainingResult
from pixel_pipeline.training.checkpoints.store import download, list_checkpoints
from pixel_pipeline.training.config.adapters import AdaptersConfig, ExpertDomains
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.config.curriculum import Curriculum, Stage
from pixel_pipeline.training.errors import (
    RunConflictError,
    TrainingConfigError,
    TrainingDataError,
    TrainingInterruptedError,
    TrainingMemoryError,
)
from pixel_pipeline.training.inference.generate import generate
from pixel_pipeline.training.loop.callbacks.interruption import Interruption
from pixel_pipeline.training.loop.module import MoEModule
from pixel_pipeline.training.model.factory import new_model, open_checkpoint
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.examples import examples
from pixel_pipeline_tests.training.base.models import write_base

CPU = torch.device("cpu")
Run = Callable[..., TrainingResult]


@pytest.fixture
def run_training(lake: Lake, manifest_key: str, tmp_path: Path) -> Run:
    def run(
        config: TrainingConfig,
        *,
        run: str | None = None,
        deadline: float | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> TrainingResult:
        return train(
            config,
            lake,
            manifest_key,
            run=run,
            report=report,
            git_revision="abc123",
            home=tmp_path,
            deadline=deadline,
        )

    return run


def test_adapters_learn_and_a_checkpoint_has_nothing_else(
    run_training: Run, adapted: TrainingConfig, lake: Lake, base: Path, tmp_path: Path
) -> None:
    result = run_training(adapted)
    assert result.validation_ratio < 0.95
    assert result.finished
    assert result.checkpoint.run.startswith("base-")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    manifest = download(lake, result.checkpoint, folder=folder)
    assert {*manifest.files} == {
        "adapter.json",
        "adapter.safetensors",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    } & {*manifest.files} | {
        "adapter.json",
        "adapter.safetensors",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert orjson.loads((folder / "adapter.json").read_bytes())["base_digest"] == open_folder(base).digest
    assert run_training(adapted).reused
    # TensorBoard finds the curves.
    assert [*(tmp_path / "logs" / result.checkpoint.run).glob("events.out.tfevents.*")]


def test_a_checkpoint_opens_as_it_was_trained(
    run_training: Run, adapted: TrainingConfig, lake: Lake, tmp_path: Path
) -> None:
    result = run_training(adapted)
    with open_checkpoint(lake, result.checkpoint, home=tmp_path, device=CPU) as opened:
        assert (opened.model.experts, opened.model.experts_per_token) == (4, 2)
        assert opened.weights_sha256 == result.model_sha256
        assert not opened.model.training
    assert len([*generate(lake, result.uri, "I feel tired.", max_new_tokens=8)]) > 1


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_are_one_step(run_training: Run, adapted: TrainingConfig, micro: int) -> None:
    # Dropout and the load-balancing loss depend on the micro-batch.
    plain = adapted.model_copy(
        update={
            "adapters": AdaptersConfig(rank=4, alpha=8),
            "rows_per_micro_batch": None,
            "router_aux_loss_coefficient": 0.0,
            # Small steps, so that rounding does not change the experts of a token.
            "learning_rate": 1e-3,
        }
    )
    whole = run_training(plain, run="whole").history.losses
    split = run_training(
        plain.model_copy(update={"rows_per_micro_batch": micro}), run=f"micro-{micro}"
    ).history.losses
    assert split == pytest.approx(whole, rel=1e-4)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    note = Interruption.on_train_batch_end

    def interrupted(self: Interruption, trainer: object, module: MoEModule, *rest: Any) -> None:
        self.requested = module.steps_done in steps
        note(self, trainer, module, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Interruption, "on_train_batch_end", interrupted)


@examples(2)
@given(stops=st.sets(st.integers(1, 11), min_size=1, max_size=3))
def test_an_interrupted_run_has_the_same_result(
    run_training: Run, adapted: TrainingConfig, monkeypatch: pytest.MonkeyPatch, stops: set[int]
) -> None:
    whole = run_training(adapted, run="whole")
    name = uuid4().hex
    with monkeypatch.context() as patched:
        interrupt_at(patched, stops)
        for _ in stops:
            with pytest.raises(TrainingInterruptedError):
                run_training(adapted, run=name)
        parts = run_training(adapted, run=name)
    assert parts.history.losses == whole.history.losses
    assert parts.model_sha256 == whole.model_sha256


def test_a_curriculum_resumes_inside_a_stage(
    run_training: Run, adapted: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = (
        Stage(name="ground", share=0.5, families={"calm": 1.0}),
        Stage(name="rest", share=0.5, families={"sleep": 3.0, "work": 1.0}, learning_rate=0.5),
    )
    staged = adapted.model_copy(update={"curriculum": Curriculum(stages=stages)})
    whole = run_training(staged, run="whole")
    assert whole.history.losses != run_training(adapted, run="without").history.losses
    with monkeypatch.context() as patched:
        interrupt_at(patched, {3, 8})
        for _ in range(2):
            with pytest.raises(TrainingInterruptedError):
                run_training(staged, run="parts")
        parts = run_training(staged, run="parts")
    assert (parts.history.losses, parts.model_sha256) == (whole.history.losses, whole.model_sha256)


def test_a_seed_may_be_large(run_training: Run, adapted: TrainingConfig) -> None:
    assert run_training(adapted.model_copy(update={"steps": 3, "seed": 2**40})).finished


def test_a_window_ends_with_a_checkpoint_and_the_next_continues(
    run_training: Run, adapted: TrainingConfig, lake: Lake
) -> None:
    lines: list[str] = []
    first = run_training(adapted, run="windows", deadline=monotonic(), report=lines.append)
    assert not first.finished
    assert first.checkpoint.step == 1
    assert first.status == "window over"
    assert any("the window ends" in line for line in lines)
    second = run_training(adapted, run="windows", deadline=monotonic() + 3600)
    assert second.finished
    assert second.resumed_from == 1
    assert second.history.losses == run_training(adapted, run="one window").history.losses
    assert list_checkpoints(lake.checkpoints, "windows")[-1].step == adapted.steps


def test_early_stopping_ends_the_run(run_training: Run, adapted: TrainingConfig) -> None:
    # The model learns nothing, so no validation beats the first.
    stuck = adapted.model_copy(
        update={"learning_rate": 1e-12, "validations": 6, "early_stopping_patience": 2}
    )
    result = run_training(stuck)
    assert result.finished
    assert result.checkpoint.step < stuck.steps
    assert run_training(stuck).reused


def test_the_dense_baseline_has_as_many_parameters(
    lake: Lake, manifest_key: str, run_training: Run, adapted: TrainingConfig, base: Path
) -> None:
    manifest = ShardManifest.load(lake.data, manifest_key)
    dense = adapted.model_copy(update={"dense_baseline": True})

    def trained(config: TrainingConfig) -> int:
        model = new_model(config, manifest, base=open_folder(base), device=CPU)
        return sum(parameter.numel() for parameter in model.trained_parameters().values())

    assert trained(dense) == pytest.approx(trained(adapted), rel=0.1)
    result = run_training(dense)
    assert "-dense-" in result.checkpoint.run
    assert result.validation_ratio < 0.95


def test_wrong_inputs_are_reported(
    run_training: Run, adapted: TrainingConfig, lake: Lake, manifest_key: str, tmp_path: Path
) -> None:
    other = write_base(tmp_path / "other", kind="llama")
    with pytest.raises(TrainingDataError, match="another tokenizer"):
        run_training(adapted.model_copy(update={"base": str(other)}))
    with pytest.raises(TrainingDataError, match="rivers"):
        run_training(adapted.model_copy(update={"domains": ExpertDomains(domains=("rivers",), steps=4)}))
    with pytest.raises(TrainingConfigError, match=r"pixel-pipeline\[wandb\]"):
        run_training(adapted.model_copy(update={"loggers": ("wandb",)}))
    run_training(adapted.model_copy(update={"steps": 3}), run="taken")
    with pytest.raises(RunConflictError, match="taken"):
        run_training(adapted.model_copy(update={"steps": 3, "adapters": AdaptersConfig(rank=2)}), run="taken")


def test_too_little_memory_names_the_setting_to_change(
    run_training: Run, adapted: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate(*_: object, **__: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr(MoEModule, "_router_losses", allocate)
    with pytest.raises(TrainingMemoryError, match="rows_per_micro_batch to 1"):
        run_training(adapted)
