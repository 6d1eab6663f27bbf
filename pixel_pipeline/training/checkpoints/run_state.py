"""What a checkpoint records beside weights and optimizer. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from pixel_pipeline.training.loop.history import History

STATE_FILE = "state.json"
MODEL_FILE = "model.safetensors"
ADAPTER_FILE = "adapter.safetensors"
FORMAT = "pixel-training-state/1"


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        step: Optimizer steps done.
        identity: Dataset, tokenizer, configuration and recipe, as in the run's name.
        manifest_key: Of the token shards, in the data bucket.
        git_revision: Of the process that wrote this checkpoint.
        parameters: (total, active for one token).
        libraries: Versions that the process had which wrote this checkpoint.
        execution: How the process that wrote this checkpoint computes: its device, and settings that change no weights.
    """

    step: int
    identity: dict[str, Any]
    manifest_key: str
    git_revision: str
    parameters: tuple[int, int]
    history: History
    execution: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "format": FORMAT,
            "step": self.step,
            "identity": self.identity,
            "manifest_key": self.manifest_key,
            "git_revision": self.git_revision,
            "parameters": {"total": self.parameters[0], "active": self.parameters[1]},
            "history": self.history.to_json(),
            "execution": {**self.execution},
            "libraries": {**self.libraries},
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From a checkpoint folder whose files have been verified."""
        content = orjson.loads((folder / STATE_FILE).read_bytes())
        return cls(
            step=content["step"],
            identity=content["identity"],
            manifest_key=content["manifest_key"],
            git_revision=content["git_revision"],
            parameters=(content["parameters"]["total"], content["parameters"]["active"]),
            history=History.from_json(content["history"]),
            execution=content.get("execution", {}),
            libraries=content.get("libraries", {}),
        )
