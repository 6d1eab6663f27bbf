"""How many rows pass the model at a time: by the memory model. Torch-free."""

from dataclasses import dataclass
import os
from pathlib import Path

from pixel_pipeline.training.planning.cost import MixtureCost

# Caches of the allocator, kernels' workspaces, and what the model of memory does not know of.
USABLE_SHARE = 0.8
# A device is busy with so many tokens; more of them at a time win nothing and take memory.
ENOUGH_TOKENS = {"cpu": 2048, "cuda": 32_768}
# Rather than fewer tokens than this at a time, a GPU computes activations again.
FEW_TOKENS = {"cpu": 1, "cuda": 2048}


@dataclass(frozen=True)
class MicroBatch:
    """How a step goes through the model.

    Attributes:
        rows: At a time.
        checkpoint_activations: Whether activations are computed again in the backward pass.
        peak_bytes: What the memory model expects; None where it knows nothing of the model.
    """

    rows: int
    checkpoint_activations: bool
    peak_bytes: int | None = None

    def smaller(self) -> "MicroBatch | None":
        """The next to try where this one does not fit; None where there is none."""
        if self.rows > 1:
            return MicroBatch(rows=self.rows // 2, checkpoint_activations=self.checkpoint_activations)
        return None if self.checkpoint_activations else MicroBatch(rows=1, checkpoint_activations=True)


def choose_micro_batch(
    cost: MixtureCost,
    *,
    rows_per_step: int,
    row_tokens: int,
    available: int,
    device: str,
    head_chunk_rows: int,
    rows: int | None = None,
    checkpoint_activations: bool = False,
) -> MicroBatch:
    """The micro-batch that fits: as many rows as keep the device busy, and activations kept if there is room for them.

    Rows are halved from those of a step, so that micro-batches of a step are alike.

    Args:
        row_tokens: Length of a row.
        available: Bytes.
        device: `cpu` or `cuda`.
        head_chunk_rows: Rows of logits that exist at a time.
        rows, checkpoint_activations: What has been decided already.

    Returns:
        The smallest there is where none fits.
    """
    usable = int(available * USABLE_SHARE)

    def peak(rows: int, *, checkpointing: bool) -> int:
        return cost.peak_bytes(
            tokens=rows * row_tokens, checkpointing=checkpointing, chunk_rows=head_chunk_rows
        )

    wanted = _halved(rows_per_step) if rows is None else [min(rows, rows_per_step)]
    enough = [n for n in wanted if n * row_tokens <= ENOUGH_TOKENS[device]] or [wanted[-1]]
    for checkpointing in (False, True):
        for n in enough:
            few = n * row_tokens < FEW_TOKENS[device] and n < enough[0]
            if checkpointing is False and (checkpoint_activations or few):
                continue
            if peak(n, checkpointing=checkpointing) <= usable:
                return MicroBatch(n, checkpointing, peak(n, checkpointing=checkpointing))
    return MicroBatch(enough[-1], True, peak(enough[-1], checkpointing=True))


def available_ram() -> int:
    """Bytes that this process may still take: the machine's, or less where its control group has a limit."""
    information = Path("/proc/meminfo")
    if not information.exists():
        # macOS does not tell; half of what is built in is a guess on the safe side.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    available = _named_numbers(information)["MemAvailable"] * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return available
    if limit == "max":
        return available
    # The kernel takes back what only caches files.
    cached = _named_numbers(group / "memory.stat").get("inactive_file", 0)
    return min(available, max(int(limit) - int(used) + cached, 0))


def _named_numbers(path: Path) -> dict[str, int]:
    return {
        fields[0].rstrip(":"): int(fields[1])
        for line in path.read_text().splitlines()
        if (fields := line.split())
    }


def _halved(rows: int) -> list[int]:
    found = [rows]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found
