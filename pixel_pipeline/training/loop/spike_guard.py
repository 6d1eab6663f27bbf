"""Is a step's loss out of line with those before it? Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from statistics import median

# Losses that a step is judged by, and how many there must be.
WINDOW = 100
LEAST = 20
# Steps left out in a row until weights are put back.
PATIENCE = 3
# A median absolute deviation of a normal distribution is this share of its standard deviation.
DEVIATION_OF_MAD = 1.4826
# The loss of a converged model hardly varies, and must not become a tripwire: deviations are at least this share of the median.
LEAST_DEVIATION = 0.01


class Verdict(Enum):
    """What to do with a step."""

    TAKE = "take"
    SKIP = "skip"
    REWIND = "rewind"


@dataclass(frozen=True)
class SpikeGuard:
    """Leaves out the update of a step whose loss jumps, and asks for earlier weights where the jump stays.

    A pure function of the run's losses, so a resumed run decides as an uninterrupted one.

    Args:
        threshold: In deviations above the median of the steps before (both robust: median and its absolute deviation).
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
            losses: Of the steps before, by step.
            skipped: Steps that were left out.
            rewinds: Steps after which weights were put back.
            since: Steps before the curriculum's present stage; another stage is other data.
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
        # After a rewind the judgement begins anew: where losses stay high with good weights, the data is harder, not the model worse.
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
