"""The record of a run in its checkpoints, next to weights and optimizer. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from pixel_pipeline.training.checkpoints.history import History

STATE_FILE = "state.json"
MODEL_FILE = "model.safetensors"
ADAPTER_FILE = "adapter.safetensors"
FORMAT = "pixel-training-state/1"


@dataclass(frozen=True)
class RunState:
    """The progress of a run.

    Attributes:
        step: Optimizer steps done.
        identity: Dataset, tokenizer, configuration and recipe, as in the run's name.
        manifest_key: Of the token shards, in the data bucket.
        git_revision, libraries, execution: Of the process that wrote this checkpoint: code, versions, and its device and settings
            that do not change the weights.
        parameters: (total, active per token).
    """

    step: int
    identity: dict[str, Any]
    manifest_key: str = ""
    git_revision: str = ""
    parameters: tuple[int, int] = (0, 0)
    history: History = field(default_factory=History)
    execution: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        total, active = self.parameters
        return {
            **asdict(self),
            "format": FORMAT,
            "parameters": {"total": total, "active": active},
            "history": self.history.to_json(),
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read it from a checkpoint folder whose files are verified."""
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
