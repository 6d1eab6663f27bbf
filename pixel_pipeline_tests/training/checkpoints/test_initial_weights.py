"""Runs that start from the weights of another run's checkpoint."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.queries import read_state
from pixel_pipeline.training.checkpoints.result import TrainingResult
from pixel_pipeline.training.checkpoints.store import CheckpointRef, download, publish
from pixel_pipeline.training.config.adapters import AdaptersConfig
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import InitialWeightsError
from pixel_pipeline.training.loop.checkpoint_folder import read_optimizer
from pixel_pipeline.training.planning.planner import plan_run
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.training.shards import write_shards

Run = Callable[..., TrainingResult]


@pytest.fixture
def run_training(lake: Lake, manifest_key: str, tmp_path: Path) -> Run:
    def run(config: TrainingConfig, *, key: str = manifest_key, run: str | None = None) -> TrainingResult:
        return train(
            config, lake, key, run=run, report=lambda line: None, git_revision="abc123", home=tmp_path
        )

    return run


@pytest.mark.parametrize("kind", ["config", "adapted"])
def test_a_new_run_starts_from_old_weights(
    run_training: Run, lake: Lake, kind: str, request: pytest.FixtureRequest
) -> None:
    config: TrainingConfig = request.getfixturevalue(kind)
    source = run_training(config)
    started = config.model_copy(update={"init_from": source.checkpoint.prefix, "seed": 8})
    result = run_training(started)
    assert result.checkpoint.run != source.checkpoint.run
    assert (result.checkpoint.step, result.resumed_from) == (config.steps, None)
    assert len(result.history.losses) == config.steps
    first, last = result.history.validations[0], source.history.validations[-1]
    assert (first.step, first.loss) == (0, pytest.approx(last.loss, rel=1e-5))

    state = read_state(lake, result.checkpoint)
    assert state is not None
    assert state.identity["init_from"] == {
        "checkpoint": source.checkpoint.prefix,
        "weights_sha256": source.model_sha256,
    }
    by_uri = started.model_copy(update={"init_from": source.uri})
    assert run_training(by_uri).checkpoint == result.checkpoint
    assert run_training(by_uri).reused
    assert run_training(config).checkpoint == source.checkpoint


def test_the_optimizer_starts_again(
    run_training: Run, config: TrainingConfig, lake: Lake, tmp_path: Path
) -> None:
    source = run_training(config)
    again = config.model_copy(update={"init_from": source.checkpoint.run, "steps": 3})
    download(lake, run_training(again).checkpoint, folder=tmp_path, names=["optimizer.safetensors"])
    steps = {float(tensors["step"]) for tensors in read_optimizer(tmp_path).values() if "step" in tensors}
    assert steps == {3.0}


def test_weights_that_do_not_fit_are_refused(
    run_training: Run, config: TrainingConfig, adapted: TrainingConfig, lake: Lake, tmp_path: Path
) -> None:
    scratch, adapters = run_training(config).checkpoint, run_training(adapted).checkpoint
    shape = config.model_shape.model_copy(update={"layers": 3})
    for changed, source, reason in (
        ({"shape": shape}, scratch, "shape.layers is 2 there, 3 here"),
        ({}, adapters, "this run from scratch"),
    ):
        with pytest.raises(InitialWeightsError, match=reason):
            run_training(config.model_copy(update={**changed, "init_from": source.prefix}))
    for changed, source, reason in (
        ({"adapters": AdaptersConfig(experts=4, rank=2, alpha=8)}, adapters, "adapters.rank is 4 there, 2"),
        ({"dense_baseline": True}, adapters, "one is a dense baseline"),
        ({}, scratch, "it was trained from scratch, this run on the base model"),
    ):
        with pytest.raises(InitialWeightsError, match=reason):
            run_training(adapted.model_copy(update={**changed, "init_from": source.prefix}))
    # Dropout is no part of the architecture.
    other = adapted.adapters.model_copy(update={"dropout": 0.0})
    accepted = adapted.model_copy(update={"adapters": other, "init_from": adapters.prefix})
    assert run_training(accepted).finished

    folder = tmp_path / "by hand"
    folder.mkdir()
    (folder / "adapter.safetensors").write_bytes(b"tensors")
    publish(lake, CheckpointRef(run="by-hand", step=1), folder=folder, final=True)
    with pytest.raises(InitialWeightsError, match=r"no state\.json"):
        run_training(adapted.model_copy(update={"init_from": "by-hand"}))


def test_another_tokenizer_is_refused_before_anything_is_measured(
    run_training: Run, config: TrainingConfig, lake: Lake, tmp_path: Path
) -> None:
    source = run_training(config).checkpoint
    other = write_shards(lake, vocab_size=280)
    started = config.model_copy(update={"init_from": source.prefix})
    with pytest.raises(InitialWeightsError, match="tokenizer"):
        run_training(started, key=other)
    with pytest.raises(InitialWeightsError, match="tokenizer"):
        plan_run(
            started,
            lake,
            other,
            hours=None,
            began=monotonic(),
            home=tmp_path,
            report=lambda line: pytest.fail(line),
        )


@pytest.mark.parametrize("name", ["latest", "best"])
def test_names_that_move_with_the_new_run_are_refused(
    run_training: Run, config: TrainingConfig, name: str
) -> None:
    source = run_training(config).checkpoint
    with pytest.raises(InitialWeightsError, match=f"--init-from {source.prefix}"):
        run_training(config.model_copy(update={"init_from": name}))
