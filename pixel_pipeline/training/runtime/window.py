"""The end of a window: the time reserved for its last steps, checkpoints and upload. Torch-free."""

RESERVED_STEPS = 2
RESERVED_CHECKPOINTS = 2
UPLOAD_BYTES_PER_SECOND = 20e6


def reserve_seconds(*, step: float, checkpoint: float, upload: float) -> float:
    """Time to reserve at the end of a window, from the seconds of a step, a checkpoint and the last upload."""
    return RESERVED_STEPS * step + RESERVED_CHECKPOINTS * checkpoint + upload
