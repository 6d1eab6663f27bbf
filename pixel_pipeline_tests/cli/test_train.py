"""`pixel plan` and `pixel train` on the command line, with a tiny base model and real shards."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from time import monotonic, sleep

import orjson
import pytest
import yaml

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import Settings
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key
from pixel_pipeline.training.base.add import add_base
from pixel_pipeline.training.checkpoints.queries import read_state
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.store import (
    CheckpointManifest,
    CheckpointRef,
    list_checkpoints,
    publish,
)
from pixel_pipeline.training.runtime.environment import prepare_environment
from pixel_pipeline_tests.cli.command import pixel
from pixel_pipeline_tests.conversations.converted import lines, sharegpt
from pixel_pipeline_tests.training.base.models import write_base
from pixel_pipeline_tests.training.shards import conversation, write_shards

prepare_environment()


@pytest.fixture
def base(lake: Lake, tmp_path: Path) -> Path:
    """A base model with the tokenizer of the current shards."""
    tokenizer = ShardManifest.load(lake.data, write_shards(lake)).tokenizer
    folder = write_base(tmp_path / "base", kind="llama", vocab_size=tokenizer.vocab_size, num_hidden_layers=2)
    (folder / "tokenizer.json").write_bytes(lake.data.get(tokenizer.key))
    return folder


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A configuration file for runs of a second or two."""
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "steps": 12,
                "rows_per_step": 4,
                "validations": 2,
                "validation_rows": 6,
                "log_every_seconds": 0,
                "checkpoint_every_seconds": 1e6,
                "adapters": {"rank": 2},
            }
        )
    )
    return path


def runs(lake: Lake) -> set[str]:
    return {item.key.split("/")[0] for item in lake.checkpoints.list("")}


def newest_state(lake: Lake, run: str) -> RunState:
    state = read_state(lake, list_checkpoints(lake.checkpoints, run)[-1])
    assert state is not None
    return state


def test_two_windows_are_one_run(lake: Lake, base: Path, quick: Path) -> None:
    arguments = ("train", "--base", base, "--config", quick)
    # The window is over before it begins: one step is done and kept all the same.
    first = pixel(*arguments, "--hours", "0.0001")
    assert first.code == 0, first.stderr
    assert "the window is too short for a step and its end" in first.stderr
    assert "window over: s3://" in first.stderr
    assert "11 of 12 steps are left: the same command continues with them" in first.stderr
    (run,) = runs(lake)
    assert list_checkpoints(lake.checkpoints, run) == [CheckpointRef(run=run, step=1)]

    second = pixel(*arguments, "--hours", "1")
    assert second.code == 0, second.stderr
    assert runs(lake) == {run}
    assert "continuing from step 1 on cpu" in second.stderr
    assert "12, 1 of them done" in second.stderr
    assert f"run {run} did" in second.stderr
    assert "it fits" in second.stderr
    newest = list_checkpoints(lake.checkpoints, run)[-1]
    assert newest.step == 12
    assert CheckpointManifest.load(lake, newest).final

    again = pixel(*arguments, "--hours", "1")
    assert again.code == 0
    assert "nothing to train" in again.stderr
    assert "is complete" in pixel("plan", "--base", base, "--config", quick).stdout

    # Neither the measurement before the run nor its windows change the run.
    whole = pixel(*arguments, "--run", "whole")
    assert whole.code == 0, whole.stderr
    losses = [newest_state(lake, name).history.losses for name in (run, "whole")]
    assert losses[0] == losses[1]


def test_a_plan_measures_then_reuses_the_speed(lake: Lake, base: Path, quick: Path, tmp_path: Path) -> None:
    (tmp_path / "by hand").mkdir()
    (tmp_path / "by hand" / "adapter.safetensors").write_bytes(b"tensors")
    publish(lake, CheckpointRef(run="by-hand", step=1), folder=tmp_path / "by hand", final=True)
    arguments = ("plan", "--base", base, "--config", quick, "--hours", "12")
    refused = pixel(*arguments, "--from-last-run")
    assert refused.code == 2
    assert "Leave out --from-last-run" in refused.stderr
    result = pixel(*arguments, "--json")
    assert result.code == 0, result.stderr
    plan = json.loads(result.stdout)
    assert (plan["steps"], plan["steps_done"], plan["fits"]) == (12, 0, True)
    assert plan["outcomes"]["expected"]["reached"] == 12
    assert plan["assumed"] == []
    assert plan["config"]["rows_per_micro_batch"] == 4
    assert plan["memory"]["peak"] > plan["memory"]["model"] > 0
    assert (
        plan["step_seconds"]["fastest"] <= plan["step_seconds"]["expected"] <= plan["step_seconds"]["slowest"]
    )
    # The measurement leaves nothing in the lake.
    assert runs(lake) == {"by-hand"}

    assert pixel("train", "--base", base, "--config", quick).code == 0
    (run,) = runs(lake) - {"by-hand"}
    longer = yaml.safe_load(quick.read_text()) | {"steps": 400}
    quick.write_text(yaml.safe_dump(longer))
    remembered = json.loads(pixel(*arguments, "--json").stdout)
    assert run in remembered["step_seconds"]["source"]
    assert "checkpoint" in remembered["assumed"]
    state = newest_state(lake, run)
    assert remembered["tokens_per_second"] == pytest.approx(state.history.tokens_per_second)
    lines = pixel(*arguments).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("run", "steps", "batch", "device", "speed", "overhead", "window", "finish")
    ]
    assert "measured just now" in pixel(*arguments, "--measure").stdout


def test_train_on_files_of_this_machine(
    lake: Lake, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import random

    # A base model in the lake, whose tokenizer makes the tokens.
    add_base(
        lake, str(write_base(tmp_path / "tiny", vocab_size=300)), home=tmp_path, report=lambda line: None
    )
    monkeypatch.setenv("PIXEL_SEQUENCE_LENGTH", "64")
    generator = random.Random(3)
    folder = tmp_path / "exports"
    for family in ("calm", "work"):
        (folder / family).mkdir(parents=True)
        records = [
            sharegpt(*(content for _, content in conversation(generator, family=family, turns=1)))
            for _ in range(150)
        ]
        (folder / family / "a.jsonl").write_bytes(lines(*records, b"{broken"))
    arguments = ("train", "--dataset-path", folder, "--base", "tiny", "--config", quick)
    result = pixel(*arguments)
    assert result.code == 0, result.stderr
    assert "300 conversations in 2 files; 2 records cannot be converted" in result.stderr
    (run,) = runs(lake)
    state = newest_state(lake, run)
    manifest = ShardManifest.load(lake.data, state.manifest_key)
    assert manifest.base == "tiny"
    # The shards of the job stay current, and equal files are equal data.
    assert not lake.data.exists("tokens/current.json")
    assert "nothing to train" in pixel(*arguments).stderr
    by_key = pixel("train", "--s3-path", lake.data.uri(state.manifest_key), "--config", quick)
    assert "nothing to train" in by_key.stderr, by_key.stderr
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"{}\n")
    refused = pixel("train", "--dataset-path", empty)
    assert refused.code == 2
    assert "contains no conversations" in refused.stderr


def test_errors_name_the_field_or_option(lake: Lake, base: Path, quick: Path, tmp_path: Path) -> None:
    quick.write_text(yaml.safe_dump({"stepz": 3, "learning_rat": 1}))
    result = pixel("train", "--config", quick)
    assert result.code == 2
    assert "learning_rat, stepz" in result.stderr
    assert "learning_rate" in result.stderr
    quick.write_text(yaml.safe_dump({"learning_rate": -1, "adapters": {"rnk": 3}}))
    result = pixel("train", "--base", base, "--config", quick)
    assert result.code == 2
    assert "learning_rate" in result.stderr
    assert "adapters.rnk" in result.stderr
    for path, reason in (
        ("s3://elsewhere/x", "not in the data bucket"),
        ("tokens/none/manifest.json", "no shard manifest"),
        ("curated", "neither a shard manifest"),
    ):
        result = pixel("train", "--s3-path", path)
        assert result.code == 2
        assert reason in result.stderr
    assert "nothing at" in pixel("train", "--dataset-path", tmp_path / "none").stderr
    assert pixel("train", "--dataset-path", tmp_path, "--s3-path", "x").code == 2
    assert pixel("train", "--hours", "0").code == 2
    assert runs(lake) == set()


def test_init_from_starts_a_new_run(lake: Lake, base: Path, quick: Path) -> None:
    arguments = ("train", "--base", base, "--config", quick)
    assert pixel(*arguments).code == 0
    (source,) = runs(lake)
    refused = pixel(*arguments, "--init-from", "latest")
    assert refused.code == 2
    assert f"hint: Name the checkpoint itself: `--init-from {source}/step-000012`." in refused.stderr
    result = pixel(*arguments, "--init-from", source)
    assert result.code == 0, result.stderr
    assert f"starting from the weights of {source}/step-000012" in result.stderr
    (started,) = runs(lake) - {source}
    compared = json.loads(pixel("runs", "compare", source, started, "--json").stdout)
    assert {row["name"] for row in compared["differences"]} == {
        "init_from.checkpoint",
        "init_from.weights_sha256",
    }
    assert compared["checkpoints"][1]["init_from"] == f"{source}/step-000012"


def test_ctrl_c_writes_a_checkpoint(lake: Lake, settings: Settings, base: Path, quick: Path) -> None:
    content = yaml.safe_load(quick.read_text()) | {"steps": 5000, "checkpoint_every_seconds": 0.0}
    quick.write_text(yaml.safe_dump(content))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pixel_pipeline.cli",
            "train",
            "--base",
            base,
            "--config",
            quick,
            "--run",
            "it",
        ],
        env={**os.environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = monotonic() + 120
    while not list_checkpoints(lake.checkpoints, "it"):
        assert process.poll() is None, process.communicate()
        assert monotonic() < deadline
        sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    newest = list_checkpoints(lake.checkpoints, "it")[-1]
    assert f"interrupted at step {newest.step}/5000" in stderr
    assert "step 1/5000  loss " in stderr
    state = orjson.loads(lake.checkpoints.get(f"{newest.prefix}/state.json"))
    assert state["execution"]["rows_per_micro_batch"] == 4
    assert current_manifest_key(lake.data) == state["manifest_key"]
