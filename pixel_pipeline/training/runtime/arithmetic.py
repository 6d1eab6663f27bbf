"""Same inputs, same bits. Imports torch."""

import torch

from pixel_pipeline.training.runtime.device import usable_cores


def use_reproducible_arithmetic(device: torch.device) -> None:
    """As many threads as cores we may use, and deterministic kernels on the CPU. Bits differ between counts of threads."""
    torch.set_num_threads(usable_cores())
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # Filling fresh memory with NaN guards against reading it; our kernels do not, and it costs bandwidth.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
