"""What of a run fits a window of time: arithmetic over measured times. Torch-free.

A window is the time that one process has. It starts up, trains, and ends in time for what comes after; the next window goes on from
its checkpoint. The steps of a run follow from the data, not from the window, so windows of any length work on one run.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

# Besides the last upload and the evaluation, the end of a window is kept free for so many steps and checkpoints.
RESERVED_STEPS = 2
RESERVED_CHECKPOINTS = 2


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step: the one to expect, and the two to reckon with.

    Attributes:
        source: Where the figures come from, for a person.
    """

    fastest: float
    expected: float
    slowest: float
    source: str

    @classmethod
    def of(cls, seconds: Sequence[float], *, source: str) -> Self:
        """Of measured steps: their median and their extremes.

        No narrower interval would be honest: a dozen steps say how much steps differ from each other, not how the machine will be
        doing in five hours.
        """
        return cls(fastest=min(seconds), expected=median(seconds), slowest=max(seconds), source=source)

    def __post_init__(self) -> None:
        assert 0 < self.fastest <= self.expected <= self.slowest, self


@dataclass(frozen=True)
class Overheads:
    """Seconds that go into something else than steps.

    Attributes:
        start_up: From the start of the process to the first step, without the validation ahead of it. Once a window.
        checkpoint: That training waits for one to be written.
        checkpoint_every: Between two that are written by the clock.
        validation: Of one.
        upload: Of the last checkpoint, which the end of a window waits for. Once a window.
        evaluation: What comes after training. Once a window.
    """

    start_up: float
    checkpoint: float
    checkpoint_every: float
    validation: float
    upload: float
    evaluation: float


@dataclass(frozen=True)
class Workload:
    """A run as the plan sees it.

    Attributes:
        steps: Of the whole run.
        done: Of them, before this window.
        validations: Numbers of done steps after which held-out rows are scored, ascending.
        tokens_per_step: Real ones, on average.
        epochs: How often the training split is read in the whole run.
        stages: (name, first step, step behind the last) of each stage of the curriculum.
    """

    steps: int
    done: int
    validations: tuple[int, ...]
    tokens_per_step: float
    epochs: float
    stages: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How it goes if every step takes as long as assumed.

    Attributes:
        step_seconds: What is assumed.
        reached: Steps done at the end of this window.
        seconds: From now to the end of this window's work, evaluation included.
        windows: Windows of this length that the run still needs, this one included; None where a window is too short for a step.
    """

    step_seconds: float
    reached: int
    seconds: float
    windows: int | None


@dataclass(frozen=True)
class Plan:
    """What a window will come to.

    Attributes:
        window: Seconds; None for as long as it takes.
        fastest, expected, slowest: With the steps of `step`.
    """

    work: Workload
    step: StepTime
    overheads: Overheads
    window: float | None
    fastest: Outcome
    expected: Outcome
    slowest: Outcome

    @property
    def fits(self) -> bool:
        """The run ends in this window even if its steps are the slow ones."""
        return self.slowest.reached == self.work.steps

    @property
    def tokens_per_second(self) -> float:
        """While steps are done."""
        return self.work.tokens_per_step / self.step.expected

    @property
    def reserve(self) -> float:
        """Seconds that are kept free at the end of a window, with slow steps."""
        return reserve_seconds(self.overheads, step_seconds=self.step.slowest)

    @property
    def stage_steps(self) -> tuple[tuple[str, int, int], ...]:
        """(name, steps in the run, steps in this window) of each stage."""
        first, last = self.work.done, self.expected.reached
        return tuple(
            (name, end - start, max(min(end, last) - max(start, first), 0))
            for name, start, end in self.work.stages
        )


def make_plan(work: Workload, *, step: StepTime, overheads: Overheads, window: float | None) -> Plan:
    """Plan a window of so many seconds, or the rest of the run."""

    def outcome(step_seconds: float) -> Outcome:
        ahead = _Window(work, overheads, step_seconds)
        reached = ahead.reach(work.done, window)
        return Outcome(
            step_seconds=step_seconds,
            reached=reached,
            seconds=overheads.start_up
            + ahead.seconds(work.done, reached)
            + overheads.checkpoint
            + overheads.upload
            + overheads.evaluation,
            windows=ahead.count(window),
        )

    return Plan(
        work=work,
        step=step,
        overheads=overheads,
        window=window,
        fastest=outcome(step.fastest),
        expected=outcome(step.expected),
        slowest=outcome(step.slowest),
    )


def reserve_seconds(overheads: Overheads, *, step_seconds: float) -> float:
    """What is kept free at the end of a window."""
    after = overheads.upload + overheads.evaluation
    return RESERVED_STEPS * step_seconds + RESERVED_CHECKPOINTS * overheads.checkpoint + after


@dataclass(frozen=True)
class _Window:
    work: Workload
    overheads: Overheads
    step_seconds: float

    def seconds(self, start: int, end: int) -> float:
        """Of the steps from `start` to `end` with their validations and checkpoints. A best validation is checkpointed too."""
        overheads = self.overheads
        every = max(overheads.checkpoint_every, self.step_seconds)
        steps = (end - start) * self.step_seconds * (1 + overheads.checkpoint / every)
        scored = sum(start < step <= end for step in self.work.validations)
        first = overheads.validation if start == 0 and 0 in self.work.validations else 0.0
        return steps + scored * (overheads.validation + overheads.checkpoint) + first

    def reach(self, start: int, window: float | None) -> int:
        """The step that a window from `start` on gets to."""
        if window is None:
            return self.work.steps
        usable = (
            window - self.overheads.start_up - reserve_seconds(self.overheads, step_seconds=self.step_seconds)
        )
        possible = range(start, self.work.steps + 1)
        # The first is no step at all, which always fits.
        fitting = bisect_right(possible, usable, key=lambda end: self.seconds(start, end))
        return possible[max(fitting - 1, 0)]

    def count(self, window: float | None) -> int | None:
        start, windows = self.work.done, 0
        while start < self.work.steps:
            end = self.reach(start, window)
            if end == start:
                return None
            start, windows = end, windows + 1
        return windows
