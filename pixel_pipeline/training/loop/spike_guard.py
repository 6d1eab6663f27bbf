"""Detects spikes of the loss. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from statistics import median

# Number of recent losses that a step is compared with, and their minimum number.
WINDOW = 100
LEAST = 20
# Steps skipped in a row before weights are restored.
PATIENCE = 3
# Standard deviation of a normal distribution over its median absolute deviation.
DEVIATION_OF_MAD = 1.4826
# The loss of a converged model hardly varies. A deviation of at least this share of the median avoids false alarms.
LEAST_DEVIATION = 0.01


class Verdict(Enum):
    """The decision about a step's update."""

    TAKE = "take"
    SKIP = "skip"
    REWIND = "rewind"


@dataclass(frozen=True)
class SpikeGuard:
    """Skips the update of a step whose loss spikes, and restores earlier weights if the loss stays high.

    A pure function of the run's losses, so a resumed run decides like an uninterrupted one.

    Args:
        threshold: In deviations above the median of recent losses; a deviation is scaled from the median absolute deviation.
    """

    threshold: float

    def verdict(
        self,
        loss: float,
        *,
        losses: Sequence[float],
        skipped: Sequence[int],
        rewinds: Sequence[int],
        since: int = 0,
    ) -> Verdict:
        """Judge the next step.

        Args:
            loss: Of the next step, number `len(losses) + 1`.
            losses: Of the earlier steps.
            skipped: Steps whose update was skipped.
            rewinds: Steps after which weights were restored.
            since: Steps before the current stage of the curriculum; earlier losses are of other data.
        """
        step = len(losses) + 1
        if isfinite(loss) and not self._high(
            loss, losses=losses, skipped=skipped, since=max([since, *rewinds[-1:]])
        ):
            return Verdict.TAKE
        in_a_row = 0
        while step - 1 - in_a_row in skipped[-PATIENCE:] and step - 1 - in_a_row not in rewinds:
            in_a_row += 1
        return Verdict.REWIND if in_a_row + 1 >= PATIENCE else Verdict.SKIP

    def _high(self, loss: float, *, losses: Sequence[float], skipped: Sequence[int], since: int) -> bool:
        # A rewind restarts the comparison: if the loss stays high with good weights, the data is harder.
        first = max(since, len(losses) - WINDOW)
        left_out = {*skipped[-WINDOW:]}
        known = [losses[at] for at in range(first, len(losses)) if at + 1 not in left_out]
        known = [value for value in known if isfinite(value)]
        if len(known) < LEAST:
            return False
        middle = median(known)
        mad = median(abs(value - middle) for value in known)
        deviation = max(mad * DEVIATION_OF_MAD, LEAST_DEVIATION * middle)
        return loss > middle + self.threshold * deviation
