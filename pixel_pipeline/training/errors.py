"""Errors of training, evaluation and generation. Torch-free."""

from pixel_pipeline.errors import PixelError


class TrainingConfigError(PixelError):
    """A training configuration has a wrong field."""


class DeviceError(PixelError):
    """The machine lacks the required device."""


class CheckpointSpaceError(PixelError):
    """The local disk has too little space for a checkpoint."""


class CheckpointUploadError(PixelError):
    """Checkpoints on the local disk are not in the lake; the message names the newest one that is."""


class CheckpointNotFoundError(PixelError):
    """No complete checkpoint has the requested name."""


class InitialWeightsError(PixelError):
    """A new run cannot start from the weights of the named checkpoint."""


class CheckpointCorruptError(PixelError):
    """A checkpoint's files disagree with its manifest."""


class TrainingDataError(PixelError):
    """The token shards do not suit the run."""


class TrainingDivergedError(PixelError):
    """The loss diverged."""


class RunConflictError(PixelError):
    """A run of this name exists and has other inputs."""


class RunBusyError(PixelError):
    """Another process trains the run."""


class TrainingInterruptedError(PixelError):
    """SIGINT or SIGTERM ended training early, with a checkpoint in the lake."""


class AdapterError(PixelError):
    """Adapters do not fit their base model."""


class PlanError(PixelError):
    """A plan lacks the speed of an earlier run."""


class TrainingMemoryError(PixelError):
    """The device has too little memory for a step."""


class PromotionError(PixelError):
    """A checkpoint is not promoted: a gate failed, or another checkpoint was promoted in the meantime."""
