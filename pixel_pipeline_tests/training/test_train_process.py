"""The training process as Dagster starts it: killed, terminated, refused."""

from pathlib import Path
import re
import signal

import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints.store import CheckpointRef, download, list_checkpoints
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import DeviceError
from pixel_pipeline.training.runtime import device
from pixel_pipeline.training.runtime.device import Gpu, check_device
from pixel_pipeline.training.runtime.identity import run_name
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.training.processes import HostedProcess, training_extras


def test_killed_then_terminated_then_finished_equals_an_undisturbed_run(
    lake: Lake, manifest_key: str, config: TrainingConfig, tmp_path: Path
) -> None:
    config = config.model_copy(update={"steps": 60, "checkpoint_every_seconds": 0.0})
    run = run_name(config, ShardManifest.load(lake.data, manifest_key), base_digest=None)

    def reached(step: int) -> bool:
        return any(ref.step >= step for ref in list_checkpoints(lake.checkpoints, run))

    killed = HostedProcess.start("train", extras=training_extras(config, manifest_key), folder=tmp_path)
    killed.wait_until(lambda: reached(4))
    assert any(line.startswith("step 1/60  loss ") for line in killed.log())
    killed.process.kill()
    assert killed.finish()[0] == -signal.SIGKILL
    assert not reached(60)

    terminated = HostedProcess.start("train", extras=training_extras(config, manifest_key), folder=tmp_path)
    after_kill = list_checkpoints(lake.checkpoints, run)[-1].step
    terminated.wait_until(lambda: reached(after_kill + 3))
    terminated.process.send_signal(signal.SIGTERM)
    status, output = terminated.finish()
    assert (status, output) == (0, "")
    (reported,) = terminated.messages("report_custom_message")
    assert reported["payload"] == {"failure": terminated.log()[-1], "transient": False}
    # Checkpoints that the killed process had not uploaded are uploaded first.
    resumed = next(line for line in terminated.log() if "continuing from step" in line)
    assert int(re.search(r"from step (\d+)", resumed)[1]) >= after_kill  # type: ignore[index]
    assert "Training was interrupted at step" in terminated.log()[-1]
    newest = list_checkpoints(lake.checkpoints, run)[-1]
    assert f"{newest.step}/60" in terminated.log()[-1]
    (tmp_path / "verified").mkdir()
    assert not download(lake, newest, folder=tmp_path / "verified").final

    quiet = {"report": lambda line: None, "git_revision": "abc123", "cache": tmp_path / "cache"}
    calm = config.model_copy(update={"checkpoint_every_seconds": 1e6})
    finished = train(calm, lake, manifest_key, **quiet)
    assert finished.resumed_from == newest.step
    undisturbed = train(calm, lake, manifest_key, run="undisturbed", **quiet)
    assert finished.history.losses == undisturbed.history.losses
    assert finished.model_sha256 == undisturbed.model_sha256


def test_results_are_reported_to_dagster(
    lake: Lake, manifest_key: str, config: TrainingConfig, tmp_path: Path
) -> None:
    config = config.model_copy(update={"steps": 3})
    training = HostedProcess.start("train", extras=training_extras(config, manifest_key), folder=tmp_path)
    assert training.finish() == (0, "")
    (made,) = training.messages("report_asset_materialization")
    figures = {name: entry["raw_value"] for name, entry in made["metadata"].items()}
    assert made["data_version"].startswith(figures["weights SHA-256"])
    assert figures["git revision"] == "abc123"
    assert figures["plot: loss by step"].startswith("![Loss by step](data:image/png;base64,")
    assert CheckpointRef.resolve(lake, figures["checkpoint"]).step == 3

    assert not any(name.startswith("planned") for name in figures)

    evaluation = HostedProcess.start(
        "evaluation.evaluate",
        extras={"checkpoint": figures["checkpoint"], "manifest_key": manifest_key},
        folder=tmp_path,
    )
    assert evaluation.finish() == (0, "")
    (made,) = evaluation.messages("report_asset_materialization")
    plot = made["metadata"]["plot: expert load by layer"]["raw_value"]
    assert plot.startswith("![Expert load by layer](data:image/png;base64,")


def test_the_plan_of_a_window_is_reported(
    lake: Lake, manifest_key: str, config: TrainingConfig, tmp_path: Path
) -> None:
    extras = {**training_extras(config.model_copy(update={"steps": 3}), manifest_key), "hours": 1.0}
    training = HostedProcess.start("train", extras=extras, folder=tmp_path)
    assert training.finish() == (0, "")
    (made,) = training.messages("report_asset_materialization")
    figures = {name: entry["raw_value"] for name, entry in made["metadata"].items()}
    assert figures["planned steps"].startswith("3 (")
    assert (figures["planned windows"], figures["steps"]) == (1, 3)
    assert figures["planned by"] == "5 steps measured just now"
    assert float(figures["planned tokens per second"].replace(",", "")) > 0
    assert any(line.startswith("finish     ") and line.endswith("it fits") for line in training.log())


def test_without_an_h100_the_process_refuses(
    lake: Lake, manifest_key: str, config: TrainingConfig, tmp_path: Path
) -> None:
    if device.visible_gpus():
        pytest.skip("this machine has a GPU")
    extras = training_extras(config.model_copy(update={"device": "h100"}), manifest_key)
    refused = HostedProcess.start("train", extras=extras, folder=tmp_path)
    # A Pipes client discards the messages of a process that ends with another status.
    assert refused.finish() == (0, "")
    (message,) = refused.messages("report_custom_message")
    assert message["payload"]["failure"].startswith(
        "profile h100 needs an NVIDIA H100; found: no CUDA device.\nSet PIXEL_PROFILE=demo"
    )


@pytest.mark.parametrize(
    ("gpus", "found"),
    [
        ([], None),
        ([Gpu("NVIDIA A100-SXM4-80GB", (8, 0))], None),
        ([Gpu("NVIDIA A100-SXM4-80GB", (8, 0)), Gpu("NVIDIA H100 80GB HBM3", (9, 0))], "cuda:1"),
        ([Gpu("NVIDIA B200", (10, 0))], "cuda:0"),
    ],
)
def test_device_check(gpus: list[Gpu], found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "visible_gpus", lambda: gpus)
    if found is None:
        with pytest.raises(DeviceError, match="A100" if gpus else "no CUDA device"):
            check_device("h100")
    else:
        assert check_device("h100") == found
    assert check_device("cpu") == "cpu"
    assert check_device("auto") == (found or "cpu")
