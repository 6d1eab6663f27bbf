"""The outcome of a training process. Torch-free."""

from dataclasses import dataclass

from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.checkpoints.store import CheckpointRef


@dataclass(frozen=True)
class TrainingResult:
    """A run after the work of one process.

    Attributes:
        checkpoint, uri: The newest.
        model_sha256: Of the trained weights, in hex.
        git_revision: Of the process that trained it.
        parameters: (total, active per token).
        reused: The run was complete already; nothing was trained.
        resumed_from: Step that this process resumed from; None if it began the run or did nothing.
        finished: Whether the run is complete; False if the window ended first.
    """

    checkpoint: CheckpointRef
    uri: str
    model_sha256: str
    dataset_version: str
    git_revision: str
    parameters: tuple[int, int]
    history: History
    reused: bool
    resumed_from: int | None
    finished: bool

    @property
    def validation_ratio(self) -> float:
        """Validation loss at the end, as a share of the loss at the start."""
        return self.history.validations[-1].loss / self.history.validations[0].loss

    @property
    def status(self) -> str:
        """`unchanged`, `trained`, or `window over` if steps are left."""
        return "unchanged" if self.reused else "trained" if self.finished else "window over"
