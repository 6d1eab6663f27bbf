"""What is known of a machine at a kind of training. Torch-free."""

from dataclasses import dataclass

from pixel_pipeline.training.planning.memory import MicroBatch
from pixel_pipeline.training.planning.plan import Overheads, StepTime


@dataclass(frozen=True)
class Speed:
    """Times and memory of steps on a device.

    Attributes:
        device: For a person.
        assumed: Names of the overheads that were not measured.
        available_bytes: Of memory before the model was there; None where nothing was measured.
        peak_bytes: Of memory, as measured: on a GPU of tensors, else of the process.
    """

    device: str
    step: StepTime
    overheads: Overheads
    micro_batch: MicroBatch
    assumed: tuple[str, ...] = ()
    available_bytes: int | None = None
    peak_bytes: int | None = None
