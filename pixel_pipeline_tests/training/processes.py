"""Runs the training modules like Dagster: in a separate process, with the context and messages of Pipes in files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import os
from pathlib import Path
import subprocess
import sys
from time import monotonic, sleep
from typing import Any

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, DAGSTER_PIPES_MESSAGES_ENV_VAR, encode_param
import orjson

from pixel_pipeline.training.config.config import TrainingConfig

PATIENCE_SECONDS = 120


@dataclass
class HostedProcess:
    """A running module and the file of its messages to Dagster."""

    process: subprocess.Popen[str]
    messages_file: Path

    @classmethod
    def start(cls, module: str, *, extras: Mapping[str, Any], folder: Path) -> "HostedProcess":
        """Start `python -m pixel_pipeline.training.<module>`."""
        messages = folder / f"{module}-{monotonic()}.jsonl"
        messages.touch()
        context = {
            "asset_keys": [module],
            "code_version_by_asset_key": None,
            "provenance_by_asset_key": None,
            "partition_key": None,
            "partition_key_range": None,
            "partition_time_window": None,
            "run_id": "test",
            "job_name": "test",
            "retry_number": 0,
            "extras": {**extras},
        }
        process = subprocess.Popen(
            [sys.executable, "-m", f"pixel_pipeline.training.{module}"],
            env={
                **os.environ,
                DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"data": context}),
                DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({"path": str(messages)}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return cls(process=process, messages_file=messages)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Poll; fails if the process ends first."""
        deadline = monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert monotonic() < deadline
            sleep(0.02)

    def finish(self) -> tuple[int, str]:
        """(exit status, stdout and stderr together)."""
        output, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, output + errors

    def messages(self, method: str) -> list[dict[str, Any]]:
        """Parameters of the messages of a kind, e.g. "log"."""
        lines = [orjson.loads(line) for line in self.messages_file.read_text().splitlines()]
        return [line["params"] for line in lines if line["method"] == method]

    def log(self) -> list[str]:
        """Log lines so far."""
        return [message["message"] for message in self.messages("log")]


def training_extras(config: TrainingConfig, manifest_key: str) -> dict[str, Any]:
    """The task that the training asset passes on."""
    return {"config": config.model_dump(mode="json"), "manifest_key": manifest_key, "git_revision": "abc123"}
