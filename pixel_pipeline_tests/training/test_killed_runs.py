"""kill -9 at random moments: killed runs end with the same losses and weights as an undisturbed run."""

from pathlib import Path
import subprocess
import sys

import orjson
import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef, download
from pixel_pipeline.training.config.config import TrainingConfig


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=[pytest.mark.deep, pytest.mark.timeout(1800)])])
def test_losses_and_weights_equal_an_undisturbed_run(
    lake: Lake, manifest_key: str, adapted: TrainingConfig, tmp_path: Path, kills: int
) -> None:
    # A checkpoint after every step, so that kills hit every state.
    config = adapted.model_copy(
        update={"steps": 16, "validations": 4, "checkpoint_every_seconds": 0.0, "loggers": ()}
    )
    asked = {
        "config": config.model_dump(mode="json"),
        "manifest_key": manifest_key,
        "home": str(tmp_path),
        "kills": kills,
        "seed": 3,
    }
    finished = subprocess.run(
        [sys.executable, "-m", "pixel_pipeline_tests.training.killed_runs", orjson.dumps(asked).decode()],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    whole = outcome(lake, "undisturbed", folder=tmp_path)
    for run in orjson.loads(finished.stdout):
        losses, weights = outcome(lake, run, folder=tmp_path)
        assert losses == whole[0]
        assert weights == whole[1]


def outcome(lake: Lake, run: str, *, folder: Path) -> tuple[History, str]:
    """History of a finished run without its times, and the digest of its weights."""
    ref = CheckpointRef.resolve(lake, run)
    manifest = CheckpointManifest.load(lake, ref)
    assert manifest.final
    download(lake, ref, folder=folder, names=["state.json"])
    history = RunState.read(folder).history
    history.seconds = 0.0
    return history, manifest.weights.sha256
