"""Whole runs: their checkpoints, resuming, reuse."""

from collections.abc import Callable
from pathlib import Path
import shutil
from types import SimpleNamespace

import orjson
import pytest
from safetensors import safe_open
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.result import TrainingResult
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.store import CheckpointRef, download, list_checkpoints
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import (
    CheckpointCorruptError,
    CheckpointSpaceError,
    RunConflictError,
    TrainingDivergedError,
    TrainingInterruptedError,
)
from pixel_pipeline.training.evaluation.plots import loss_curve
from pixel_pipeline.training.inference.generate import encode_messages, generate
from pixel_pipeline.training.loop.callbacks.interruption import Interruption
from pixel_pipeline.training.loop.module import MoEModule, learning_rate_factor
from pixel_pipeline.training.loop.trainer import Fit
from pixel_pipeline.training.model.from_scratch import load_model, parameter_counts
from pixel_pipeline.training.train import train

Trained = tuple[TrainingResult, list[str]]


@pytest.fixture
def run_training(lake: Lake, manifest_key: str, cache: Path) -> Callable[..., Trained]:
    def run(config: TrainingConfig, *, run: str | None = None) -> Trained:
        lines: list[str] = []
        result = train(
            config, lake, manifest_key, run=run, report=lines.append, git_revision="abc123", cache=cache
        )
        return result, lines

    return run


def test_a_run_learns_and_is_reused(
    run_training: Callable[..., Trained], config: TrainingConfig, lake: Lake
) -> None:
    result, lines = run_training(config)
    history = result.history
    assert [validation.step for validation in history.validations] == [0, 6, 12]
    assert len(history.losses) == 12
    assert result.validation_ratio < 0.9
    assert {*history.validations[0].families} == {"calm", "sleep", "work"}
    assert (result.git_revision, result.reused, result.resumed_from) == ("abc123", False, None)
    progress = [line for line in lines if line.startswith("step") and "left" in line]
    assert progress[0].startswith("step 1/12  loss ")
    assert progress[-1].startswith("step 12/12  loss ")
    assert loss_curve(history).startswith(b"\x89PNG")

    again, lines = run_training(config)
    assert again.reused
    assert len(lines) == 1
    assert (again.model_sha256, again.history) == (result.model_sha256, history)
    assert [item.key for item in lake.checkpoints.list("") if "latest" in item.key] == [
        f"{result.checkpoint.run}/latest.json"
    ]


def test_transformers_loads_a_checkpoint(
    run_training: Callable[..., Trained], config: TrainingConfig, lake: Lake, tmp_path: Path
) -> None:
    result, _ = run_training(config)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    manifest = download(lake, result.checkpoint, folder=folder)
    assert {*manifest.files} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for path in folder.iterdir():
        if path.suffix == ".json":
            orjson.loads(path.read_bytes())
        else:
            with safe_open(path, framework="pt") as file:
                names = {*file.keys()}
            assert names
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert {
            f"model.layers.1.block_sparse_moe.experts.3.{weight}.weight" for weight in ("w1", "w2", "w3")
        } <= {*file.keys()}
    stored = orjson.loads((folder / "config.json").read_bytes())
    assert stored["rope_theta"] == stored["rope_parameters"]["rope_theta"]
    assert stored["head_dim"] == 16

    plain = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ours = load_model(folder, device=torch.device("cpu")).train(False)
    messages = [{"role": "user", "content": "I feel tired at night."}]
    tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    assert tokens == encode_messages(tokenizer, [{"role": "user", "content": "I feel tired at night."}])
    with torch.no_grad():
        torch.testing.assert_close(
            plain(torch.tensor([tokens])).logits, ours(torch.tensor([tokens])).logits, atol=1e-5, rtol=1e-5
        )
    assert result.parameters == parameter_counts(ours)
    assert tokenizer.eos_token == "<|im_end|>"


def test_generation_streams_and_is_reproducible(
    run_training: Callable[..., Trained], config: TrainingConfig, lake: Lake
) -> None:
    run_training(config)
    first, second, other = (
        [*generate(lake, "latest", "I feel tired.", max_new_tokens=16, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == second
    assert len(first) > 3
    assert "".join(first) != "".join(other)
    with pytest.raises(Exception, match="context is 64"):
        next(generate(lake, "latest", "tired " * 100))
    with pytest.raises(Exception, match="out of range"):
        next(generate(lake, "latest", "x", top_p=0.0))


def test_an_interrupted_run_ends_with_the_same_weights(
    run_training: Callable[..., Trained],
    config: TrainingConfig,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, _ = run_training(config, run="whole")
    note = Interruption.on_train_batch_end

    def interrupt_after_six(self: Interruption, trainer: object, module: MoEModule, *rest: object) -> None:
        self.requested = module.steps_done == 6
        note(self, trainer, module, *rest)

    monkeypatch.setattr(Interruption, "on_train_batch_end", interrupt_after_six)
    with pytest.raises(TrainingInterruptedError, match="step 6/12"):
        run_training(config, run="parts")
    assert list_checkpoints(lake.checkpoints, "parts") == [CheckpointRef(run="parts", step=6)]
    monkeypatch.setattr(Interruption, "on_train_batch_end", note)
    # Other uses of the random generator between the two halves do not matter.
    torch.rand(7)
    parts, _ = run_training(config, run="parts")
    assert parts.resumed_from == 6
    assert parts.history.losses == whole.history.losses
    assert parts.history.validations == whole.history.validations
    assert parts.model_sha256 == whole.model_sha256


def test_the_newest_two_checkpoints_are_kept(
    run_training: Callable[..., Trained], config: TrainingConfig, lake: Lake
) -> None:
    result, _ = run_training(config.model_copy(update={"steps": 4, "checkpoint_every_seconds": 0.0}))
    run = result.checkpoint.run
    assert [ref.step for ref in list_checkpoints(lake.checkpoints, run)] == [3, 4]


def test_a_damaged_checkpoint_is_not_resumed(
    run_training: Callable[..., Trained],
    config: TrainingConfig,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Fit, "_save", _fail_after_two(Fit._save))
        with pytest.raises(OSError, match="disk"):
            run_training(config.model_copy(update={"checkpoint_every_seconds": 0.0}), run="damaged")
    newest = list_checkpoints(lake.checkpoints, "damaged")[-1]
    key = f"{newest.prefix}/optimizer.safetensors"
    content = bytearray(lake.checkpoints.get(key))
    content[-1] ^= 1
    lake.checkpoints.put(key, bytes(content))
    with pytest.raises(CheckpointCorruptError, match=r"optimizer\.safetensors has SHA-256"):
        run_training(config, run="damaged")


def _fail_after_two(save: Callable[..., None]) -> Callable[..., None]:
    def saving(self: Fit, module: MoEModule, *, best: bool) -> None:
        if module.steps_done > 2:
            raise OSError("the disk is full")
        save(self, module, best=best)

    return saving


def test_a_run_with_other_inputs_is_not_resumed(
    run_training: Callable[..., Trained], config: TrainingConfig
) -> None:
    short = config.model_copy(update={"steps": 3})
    run_training(short, run="taken")
    with pytest.raises(RunConflictError, match="taken"):
        run_training(short.model_copy(update={"seed": 8}), run="taken")


def test_a_diverged_run_ends(
    run_training: Callable[..., Trained], config: TrainingConfig, lake: Lake
) -> None:
    with pytest.raises(TrainingDivergedError, match="step"):
        run_training(config.model_copy(update={"learning_rate": 1e30}), run="wild")
    assert list_checkpoints(lake.checkpoints, "wild") == []


def test_a_full_disk_is_reported_before_anything_is_written(
    run_training: Callable[..., Trained], config: TrainingConfig, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointSpaceError, match="PIXEL_HOME"):
        run_training(config.model_copy(update={"steps": 3}), run="full")
    assert list_checkpoints(lake.checkpoints, "full") == []


def test_mixed_precision_learns(run_training: Callable[..., Trained], config: TrainingConfig) -> None:
    result, _ = run_training(config.model_copy(update={"precision": "bf16-mixed"}))
    assert result.validation_ratio < 0.95


def test_learning_rate_warms_up_and_decays_to_its_minimum(config: TrainingConfig) -> None:
    factors = [learning_rate_factor(config)(step) for step in range(config.steps)]
    assert factors[0] == pytest.approx(1 / 3)
    assert max(factors) == factors[config.warmup_steps] == 1.0
    assert factors[-1] == pytest.approx(config.min_learning_rate_ratio)
    assert factors[2:] == sorted(factors[2:], reverse=True)


def test_the_state_is_plain_json(
    run_training: Callable[..., Trained], config: TrainingConfig, lake: Lake, tmp_path: Path
) -> None:
    result, _ = run_training(config.model_copy(update={"steps": 3, "warmup_steps": 0}))
    download(lake, result.checkpoint, folder=tmp_path, names=["state.json"])
    state = RunState.read(tmp_path)
    assert state.history.tokens == result.history.tokens > 0
    assert state.identity["config"]["steps"] == 3
    assert {*orjson.loads((tmp_path / "state.json").read_bytes())} == {
        *(
            "execution",
            "format",
            "git_revision",
            "history",
            "identity",
            "libraries",
            "manifest_key",
            "parameters",
            "step",
            "threads",
        )
    }
