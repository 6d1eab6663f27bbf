"""Checks the required device before any work. Imports torch only to look for a GPU."""

from dataclasses import dataclass
import os
from typing import TYPE_CHECKING

from pixel_pipeline.training.errors import DeviceError

if TYPE_CHECKING:
    import torch

# Hopper is 9.0 and Blackwell higher: an H200 or B200 replaces an H100.
LEAST_CAPABILITY = (9, 0)


@dataclass(frozen=True)
class Gpu:
    """A visible NVIDIA GPU and its CUDA compute capability (major, minor)."""

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


def visible_gpus() -> list[Gpu]:
    """The GPUs that torch sees, in device order."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [
        Gpu(name=torch.cuda.get_device_name(index), capability=torch.cuda.get_device_capability(index))
        for index in range(torch.cuda.device_count())
    ]


def check_device(requirement: str) -> str:
    """The torch device to train on: "cpu" or "cuda:0".

    Args:
        requirement: "cpu", "h100" for an NVIDIA H100 or a newer data-centre GPU, or "auto" for such a GPU if there is one, else the CPU.

    Raises:
        DeviceError: no suitable device; the message lists those found.
    """
    if requirement == "cpu":
        return "cpu"
    gpus = visible_gpus()
    for index, gpu in enumerate(gpus):
        if gpu.capability >= LEAST_CAPABILITY:
            return f"cuda:{index}"
    if requirement == "auto":
        return "cpu"
    found = ", ".join(str(gpu) for gpu in gpus) or "no CUDA device"
    raise DeviceError(
        f"profile {requirement} needs an NVIDIA H100; found: {found}.",
        hint="Set PIXEL_PROFILE=demo to train the nano model on the CPU, or run on a machine with an H100.",
    )


def device_name(device: "str | torch.device") -> str:
    """Name of a device in plans and checkpoints: a GPU's model, or a CPU's usable cores."""
    if str(device) == "cpu":
        return f"CPU, {usable_cores()} cores"
    import torch

    return torch.cuda.get_device_name(device)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
