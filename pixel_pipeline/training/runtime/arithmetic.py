"""Reproducible arithmetic: same inputs, same bits. Imports torch."""

import torch

from pixel_pipeline.training.runtime.device import usable_cores


def use_reproducible_arithmetic(device: torch.device) -> None:
    """Use one thread per usable core, and deterministic kernels on the CPU. Results depend on the number of threads."""
    torch.set_num_threads(usable_cores())
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # Filling new memory with NaN costs bandwidth and only guards against kernels that read it; ours do not.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
