"""How much of a run fits into a window of time: arithmetic over measured times. Torch-free.

A window is the time that one process has. It starts up, trains, and stops early enough for a last checkpoint and an evaluation; the
next window continues from the checkpoint. The steps of a run follow from the data, so windows of any length work on the same run.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.evaluation.report import TEST, VALIDATION
from pixel_pipeline.training.planning.memory import MicroBatch
from pixel_pipeline.training.runtime.window import reserve_seconds


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Times, in seconds, and memory of a kind of run on a device.

    Attributes:
        device: Readable name.
        source: Where the times come from, readable.
        fastest, expected, slowest: Of a step. A narrower interval would not be honest: a few steps show how much steps differ, but
            not how fast the machine will be in five hours.
        start_up: From the start of the process to the first step, without the validation before it.
        checkpoint: For which training waits while one is written.
        validation: Of one.
        upload: Of the last checkpoint, which the end of a window waits for.
        evaluation: After training.
        assumed: Names of the times that were not measured.
        available_bytes: Free memory before the model was built; None if not measured.
        peak_bytes: Measured peak: of tensors on a GPU, else of the process.
    """

    device: str
    source: str
    fastest: float
    expected: float
    slowest: float
    start_up: float
    checkpoint: float
    validation: float
    upload: float
    evaluation: float
    micro_batch: MicroBatch
    assumed: tuple[str, ...] = ()
    available_bytes: int | None = None
    peak_bytes: int | None = None

    def __post_init__(self) -> None:
        assert 0 < self.fastest <= self.expected <= self.slowest, self


class Outcome(NamedTuple):
    """The end of a window if every step takes `step_seconds`.

    Attributes:
        reached: Steps done at the end of the window.
        seconds: From now to the end of the window's work, evaluation included.
        windows: Windows of this length that the run still needs, including this one; None if the window is too short for a step.
    """

    step_seconds: float
    reached: int
    seconds: float
    windows: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The next window of a run.

    Attributes:
        config: With the chosen micro-batch.
        done: Steps done before the window.
        speed: None if the run is complete, and there is nothing to plan.
        window: Seconds; None for the rest of the run.
    """

    run: str
    config: TrainingConfig
    manifest: ShardManifest
    done: int
    speed: Speed | None
    window: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return self.speed is None

    @property
    def times(self) -> Speed:
        """The speed of a run that is not complete."""
        assert self.speed is not None, "the run is complete"
        return self.speed

    @property
    def tokens_per_step(self) -> float:
        """Tokens in a step's rows, without padding, on average."""
        return tokens_per_step(self.config, self.manifest)

    @property
    def tokens_per_second(self) -> float:
        """During steps."""
        return self.tokens_per_step / self.times.expected

    @property
    def epochs(self) -> float:
        """Number of times the whole run reads the training split."""
        return self.config.steps * self.config.rows_per_step / max(self.manifest.splits["train"].rows, 1)

    @property
    def reserve(self) -> float:
        """Seconds reserved at the end of the window, for slow steps."""
        return self._reserve(self.times.slowest)

    @property
    def fits(self) -> bool:
        """Whether the run ends in this window even if all steps are slow."""
        return self.slowest.reached == self.config.steps

    @property
    def stage_steps(self) -> tuple[tuple[str, int, int], ...]:
        """(name, steps in the run, steps in this window) of each stage."""
        first, last = self.done, self.expected.reached
        return tuple(
            (part.stage.name, part.end - part.start, max(min(part.end, last) - max(part.start, first), 0))
            for part in self.config.curriculum.resolve(self.config.steps)
        )

    @cached_property
    def fastest(self) -> Outcome:
        """With the fastest steps."""
        return self._outcome(self.times.fastest)

    @cached_property
    def expected(self) -> Outcome:
        """With the expected steps."""
        return self._outcome(self.times.expected)

    @cached_property
    def slowest(self) -> Outcome:
        """With the slowest steps."""
        return self._outcome(self.times.slowest)

    def _outcome(self, step: float) -> Outcome:
        times, start, windows = self.times, self.done, 0
        reached = self._reach(start, step)
        seconds = times.start_up + self._seconds(start, reached, step)
        while start < self.config.steps:
            end = self._reach(start, step)
            if end == start:
                break
            start, windows = end, windows + 1
        return Outcome(
            step_seconds=step,
            reached=reached,
            seconds=seconds + times.checkpoint + times.upload + times.evaluation,
            windows=windows if start == self.config.steps else None,
        )

    def _reach(self, start: int, step: float) -> int:
        """The step that a window starting at step `start` reaches."""
        if self.window is None:
            return self.config.steps
        usable = self.window - self.times.start_up - self._reserve(step)
        ends = range(start, self.config.steps + 1)
        fitting = bisect_right(ends, usable, key=lambda end: self._seconds(start, end, step))
        return ends[max(fitting - 1, 0)]

    def _seconds(self, start: int, end: int, step: float) -> float:
        """Seconds from step `start` to `end`, with validations and checkpoints. The best validation writes a checkpoint too."""
        times, validations = self.times, self.config.validation_steps()
        every = max(self.config.checkpoint_every_seconds, step)
        steps = (end - start) * step * (1 + times.checkpoint / every)
        count = sum(start < at <= end for at in validations)
        first = times.validation if start == 0 else 0.0
        return steps + count * (times.validation + times.checkpoint) + first

    def _reserve(self, step: float) -> float:
        times = self.times
        return times.evaluation + reserve_seconds(step=step, checkpoint=times.checkpoint, upload=times.upload)


def tokens_per_step(config: TrainingConfig, manifest: ShardManifest) -> float:
    """Tokens in a step's rows, without padding, on average."""
    train = manifest.splits["train"]
    return config.rows_per_step * train.tokens / max(train.rows, 1)


def evaluated_rows(manifest: ShardManifest, *, limit: int, adapters: bool) -> int:
    """Rows that an evaluation scores in both held-out splits; with adapters, the base model alone scores them too."""
    rows = sum(
        min(manifest.splits[split].rows, limit) for split in (VALIDATION, TEST) if split in manifest.splits
    )
    return rows * (2 if adapters else 1)
