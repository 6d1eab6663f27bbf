"""The work that is asked of one training process, as plain types between processes. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pixel_pipeline.training.config.config import TrainingConfig


@dataclass(frozen=True)
class Session:
    """The work of one training process.

    Attributes:
        run: Name of the run; None: derived from the data and the configuration.
        hours: That the process has, from its start; None: no limit.
        evaluates: Whether an evaluation follows within these hours.
    """

    config: TrainingConfig
    manifest_key: str
    git_revision: str
    run: str | None = None
    hours: float | None = None
    evaluates: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain types, for another process."""
        return {**asdict(self), "config": self.config.model_dump(mode="json")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            TrainingConfigError: naming each wrong field.
        """
        return cls(**{**content, "config": TrainingConfig.parse(content["config"])})
