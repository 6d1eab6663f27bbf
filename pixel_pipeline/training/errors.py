"""Errors of training, evaluation and generation. Torch-free."""

from pixel_pipeline.errors import PixelError


class TrainingConfigError(PixelError):
    """A training configuration has a field that is wrong."""


class DeviceError(PixelError):
    """The machine lacks the device that the profile asks for."""


class CheckpointSpaceError(PixelError):
    """Too little local disk to write a checkpoint before it is uploaded."""


class CheckpointUploadError(PixelError):
    """Checkpoints on the local disk that are not in the lake; the message tells what is durable."""


class CheckpointNotFoundError(PixelError):
    """No complete checkpoint matches what was asked for."""


class InitialWeightsError(PixelError):
    """A new run cannot start from the weights of the checkpoint that it names."""


class CheckpointCorruptError(PixelError):
    """A checkpoint's files disagree with its manifest."""


class TrainingDataError(PixelError):
    """The token shards cannot be trained on."""


class TrainingDivergedError(PixelError):
    """The loss is no longer a finite number."""


class RunConflictError(PixelError):
    """A run of this name exists and was trained on other data or with another configuration."""


class RunBusyError(PixelError):
    """Another process works on the run."""


class TrainingInterruptedError(PixelError):
    """SIGINT or SIGTERM ended training early; what was done is in a durable checkpoint."""


class AdapterError(PixelError):
    """Adapters and the model that they are to change do not fit each other."""


class PlanError(PixelError):
    """There is nothing to plan by."""


class TrainingMemoryError(PixelError):
    """The device has too little memory for a step."""


class PromotionError(PixelError):
    """A checkpoint is not promoted: a gate does not hold, or another was promoted meanwhile."""
