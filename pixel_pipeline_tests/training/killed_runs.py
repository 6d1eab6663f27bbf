"""Trains in child processes and kills them: `python -m pixel_pipeline_tests.training.killed_runs`.

torch is imported once and every child is a fork, so fifty children cost seconds. This process computes nothing itself, because
threads do not survive a fork.
"""

from collections.abc import Callable
import os
from pathlib import Path
import random
import signal
import sys
from time import monotonic, sleep

import orjson

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.loop import trainer as fit
from pixel_pipeline.training.runtime.hosting import run_hosted
from pixel_pipeline.training.train import train

PATIENCE_SECONDS = 300.0
assert fit is not None, "imported before the forks"


def kill_repeatedly(
    config: TrainingConfig, manifest_key: str, *, home: Path, kills: int, seed: int
) -> list[str]:
    """Train runs `killed-0`, `killed-1`, … of one configuration to their ends, killing them `kills` times in all; returns their names."""
    rng = random.Random(seed)

    def training(run: str) -> Callable[[], int]:
        return lambda: run_hosted(
            lambda host: _train(config, manifest_key, run=run, home=home, report=host.report)
        )

    started = monotonic()
    assert _child(training("undisturbed"), seconds=PATIENCE_SECONDS) == 0
    whole = monotonic() - started
    runs, done = ["killed-0"], 0
    while True:
        last = done == kills
        status = _child(training(runs[-1]), seconds=PATIENCE_SECONDS if last else rng.uniform(0, whole))
        if status == -signal.SIGKILL:
            assert not last, "the last run takes too long"
            done += 1
        else:
            assert status == 0, status
            if last:
                return runs
            runs.append(f"killed-{len(runs)}")


def _train(
    config: TrainingConfig, manifest_key: str, *, run: str, home: Path, report: Callable[[str], None]
) -> None:
    train(
        config,
        Lake.open(get_settings()),
        manifest_key,
        run=run,
        report=report,
        git_revision="abc123",
        home=home,
    )


def _child(body: Callable[[], int], *, seconds: float) -> int:
    """Exit status of a fork that runs the body; it is killed after `seconds`."""
    pid = os.fork()
    if pid == 0:
        os._exit(body())
    deadline = monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            # It may have ended by itself in the meantime.
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sleep(0.002)


if __name__ == "__main__":
    asked = orjson.loads(sys.argv[1])
    names = kill_repeatedly(
        TrainingConfig.parse(asked["config"]),
        asked["manifest_key"],
        home=Path(asked["home"]),
        kills=asked["kills"],
        seed=asked["seed"],
    )
    sys.stdout.write(orjson.dumps(names).decode())
