"""How many rows fit into a forward pass, by a model of its memory. Torch-free."""

import os
from pathlib import Path
from typing import NamedTuple

from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.model.cost import MixtureCost

# The rest is for the allocator's caches, kernels' workspaces, and memory that the model omits.
USABLE_SHARE = 0.8
# This many tokens keep a device busy; more cost memory and gain nothing.
ENOUGH_TOKENS = {"cpu": 2048, "cuda": 32_768}
# A GPU recomputes activations rather than process fewer tokens at a time.
FEW_TOKENS = {"cpu": 1, "cuda": 2048}


class MicroBatch(NamedTuple):
    """The part of a step that passes the model at a time.

    Attributes:
        checkpoint_activations: Whether activations are recomputed in the backward pass.
        peak_bytes: Predicted memory; None if the memory model does not apply.
    """

    rows: int
    checkpoint_activations: bool
    peak_bytes: int | None = None

    def smaller(self) -> "MicroBatch | None":
        """The next one to try if this does not fit; None if there is none."""
        if self.rows > 1:
            return MicroBatch(self.rows // 2, self.checkpoint_activations)
        return None if self.checkpoint_activations else MicroBatch(1, True)

    def applied_to(self, config: TrainingConfig) -> TrainingConfig:
        """The configuration with this micro-batch."""
        return config.model_copy(
            update={
                "rows_per_micro_batch": self.rows,
                "checkpoint_activations": self.checkpoint_activations,
            }
        )


def choose_micro_batch(
    cost: MixtureCost,
    *,
    rows_per_step: int,
    row_tokens: int,
    available: int,
    device: str,
    head_chunk_rows: int,
    checkpoint_activations: bool = False,
) -> MicroBatch:
    """The largest micro-batch that fits and that the device needs; activations are kept if there is room.

    Rows are halved from those of a step, so that all micro-batches of a step are alike.

    Args:
        available: Bytes.
        device: `cpu` or `cuda`.
        head_chunk_rows: Rows of logits that exist at a time.
        checkpoint_activations: Always recompute activations.

    Returns:
        The smallest micro-batch if none fits.
    """
    rows = [rows_per_step]
    while rows[-1] > 1:
        rows.append(rows[-1] // 2)
    enough = [n for n in rows if n * row_tokens <= ENOUGH_TOKENS[device]] or rows[-1:]
    keeping = [n for n in enough if n == enough[0] or n * row_tokens >= FEW_TOKENS[device]]
    choices = [] if checkpoint_activations else [(n, False) for n in keeping]
    choices += [(n, True) for n in enough]
    found = [
        MicroBatch(
            n,
            checkpointing,
            cost.peak_bytes(tokens=n * row_tokens, checkpointing=checkpointing, chunk_rows=head_chunk_rows),
        )
        for n, checkpointing in choices
    ]
    return next((micro for micro in found if (micro.peak_bytes or 0) <= available * USABLE_SHARE), found[-1])


def available_ram() -> int:
    """Bytes that this process may still allocate: on the machine, or in its control group if that has a limit."""
    information = Path("/proc/meminfo")
    if not information.exists():
        # macOS does not report it; half of the installed memory is a safe guess.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    available = _named_numbers(information)["MemAvailable"] * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return available
    if limit == "max":
        return available
    # The kernel frees memory that only caches files.
    cached = _named_numbers(group / "memory.stat").get("inactive_file", 0)
    return min(available, max(int(limit) - int(used) + cached, 0))


def _named_numbers(path: Path) -> dict[str, int]:
    return {
        fields[0].rstrip(":"): int(fields[1])
        for line in path.read_text().splitlines()
        if (fields := line.split())
    }
