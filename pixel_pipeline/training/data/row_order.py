"""Which rows each step of a run reads: a pure function of the step. Torch-free.

Every family has one stream of rows over the whole run: its rows in a seeded order, then all of them in another, and so on.
A stage's families form pools, those that the same patterns match; rows of a pool come in proportion to its families'
sizes. How many rows a pool has given after n of a stage is Webster's apportionment of n by the pools' weights (the method
of major fractions, 1832): it never goes back, and is within a row of the weights or nearly so at every n.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import floor, fsum

import numpy as np
from numpy.typing import NDArray

from pixel_pipeline.training.config.curriculum import Curriculum, Stage, StageSteps

Ints = NDArray[np.int32]


class RowOrder:
    """The rows of each step.

    Args:
        families: Family of each row.
        categories: Category of each family, which a curriculum may name; by default a family's own name.
        steps: Of the whole run.

    Raises:
        CurriculumError: the curriculum does not fit the rows' families or the number of steps.
    """

    def __init__(
        self,
        families: Sequence[str],
        *,
        curriculum: Curriculum,
        steps: int,
        rows_per_step: int,
        seed: int,
        categories: Mapping[str, str] | None = None,
    ) -> None:
        self.steps = steps
        self._rows_per_step = rows_per_step
        names = sorted(set(families))
        numbers = {name: number for number, name in enumerate(names)}
        of_row = np.fromiter((numbers[name] for name in families), np.int32, len(families))
        sizes = np.bincount(of_row, minlength=len(names))
        members = np.split(np.argsort(of_row, kind="stable").astype(np.int32), np.cumsum(sizes)[:-1])
        self._streams = [_Stream(rows, seed=seed, family=number) for number, rows in enumerate(members)]
        self._stages: list[_StageRows] = []
        done = np.zeros(len(names), np.int64)
        for number, part in enumerate(curriculum.resolve(steps)):
            pools = _pools(
                part.stage, sizes=dict(zip(names, sizes.tolist(), strict=True)), categories=categories or {}
            )
            self._stages.append(
                _StageRows(
                    part,
                    [
                        _Pool(
                            {numbers[name]: int(sizes[numbers[name]]) for name in pool},
                            seed=[seed, 1, number, place],
                        )
                        for place, pool in enumerate(pools)
                    ],
                    weights=[*pools.values()],
                    done=done,
                )
            )
            if part.end < steps:
                done = done + self._stages[-1].read((part.end - part.start) * rows_per_step)

    def rows(self, step: int) -> list[int]:
        """Indices of a step's rows, as many as a step reads."""
        stage = self._at(step)
        start = (step - stage.part.start) * self._rows_per_step
        return [
            self._streams[family].row(place)
            for family, place in stage.slots(start, start + self._rows_per_step)
        ]

    def part(self, step: int) -> StageSteps:
        """The stage that a step belongs to, and its steps."""
        return self._at(step).part

    def _at(self, step: int) -> "_StageRows":
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is outside of the run's {self.steps}")
        return self._stages[bisect_right(self._stages, step, key=lambda stage: stage.part.start) - 1]


class _Stream:
    """A family's rows, over and over, each time in an order of its own."""

    def __init__(self, rows: Ints, *, seed: int, family: int) -> None:
        self._rows = rows
        self._seed = [seed, 0, family]
        self._epoch = -1
        self._order = rows

    def row(self, place: int) -> int:
        epoch, place = divmod(place, len(self._rows))
        if epoch != self._epoch:
            self._order = np.random.default_rng([*self._seed, epoch]).permutation(self._rows)
            self._epoch = epoch
        return int(self._order[place])


class _Pool:
    """Families that are read in proportion to their sizes: exactly so over each round, which is as long as all are together."""

    def __init__(self, sizes: dict[int, int], *, seed: list[int]) -> None:
        self.sizes = sizes
        self._length = sum(sizes.values())
        self._seed = seed
        self._round = -1
        self._families = self._ranks = np.zeros(0, np.int32)

    def slot(self, place: int) -> tuple[int, int]:
        """(family, how many of its rows the pool gave before) of the pool's row at `place`."""
        number, place = divmod(place, self._length)
        if len(self.sizes) == 1:
            (family,) = self.sizes
            return family, number * self._length + place
        self._deal(number)
        family = int(self._families[place])
        return family, number * self.sizes[family] + int(self._ranks[place])

    def read(self, rows: int) -> dict[int, int]:
        """How many of each family's rows are among the pool's first `rows`."""
        number, rest = divmod(rows, self._length)
        counts = {family: number * size for family, size in self.sizes.items()}
        if len(self.sizes) == 1:
            return dict.fromkeys(self.sizes, rows)
        self._deal(number)
        found, numbers = np.unique(self._families[:rest], return_counts=True)
        for family, count in zip(found.tolist(), numbers.tolist(), strict=True):
            counts[family] += count
        return counts

    def _deal(self, number: int) -> None:
        if number == self._round:
            return
        sizes = [*self.sizes.values()]
        # Which of the pool's families, as small numbers: those are sorted in linear time.
        dealt = np.repeat(np.arange(len(sizes), dtype=np.int16), sizes)
        np.random.default_rng([*self._seed, number]).shuffle(dealt)
        self._ranks = np.empty(self._length, np.int32)
        self._ranks[np.argsort(dealt, kind="stable")] = np.concatenate(
            [np.arange(size, dtype=np.int32) for size in sizes]
        )
        self._families = np.array([*self.sizes], np.int32)[dealt]
        self._round = number


class _StageRows:
    def __init__(
        self, part: StageSteps, pools: list[_Pool], *, weights: list[float], done: NDArray[np.int64]
    ) -> None:
        self.part = part
        self._pools = pools
        self._weights = weights
        self._done = done

    def slots(self, start: int, end: int) -> list[tuple[int, int]]:
        """(family, place in its stream) of the stage's rows [start, end), pool by pool."""
        slots = []
        for pool, first, last in zip(
            self._pools, apportion(self._weights, start), apportion(self._weights, end), strict=True
        ):
            for place in range(first, last):
                family, before = pool.slot(place)
                slots.append((family, int(self._done[family]) + before))
        return slots

    def read(self, rows: int) -> NDArray[np.int64]:
        """How many rows of each family are among the stage's first `rows`."""
        counts = np.zeros_like(self._done)
        for pool, taken in zip(self._pools, apportion(self._weights, rows), strict=True):
            for family, count in pool.read(taken).items():
                counts[family] += count
        return counts


def _pools(
    stage: Stage, *, sizes: dict[str, int], categories: Mapping[str, str]
) -> dict[tuple[str, ...], float]:
    """Families that the same patterns match, with the share of the stage's rows that they get; the shares sum to 1."""
    matched = stage.matched(sizes, categories=categories)
    together: dict[tuple[str, ...], list[str]] = {}
    for family in sorted(sizes):
        if patterns := tuple(pattern for pattern, members in matched.items() if family in members):
            together.setdefault(patterns, []).append(family)
    total = fsum(stage.families.values())
    rows_of = {pattern: sum(sizes[family] for family in members) for pattern, members in matched.items()}
    return {
        tuple(pool): fsum(
            stage.families[pattern] / total * sum(sizes[family] for family in pool) / rows_of[pattern]
            for pattern in patterns
        )
        for patterns, pool in together.items()
    }


def apportion(weights: Sequence[float], n: int) -> list[int]:
    """Whole parts of n in proportion to weights that sum to 1. None becomes smaller when n grows.

    The parts are the n earliest of all dates (k + 1/2) / weight, k = 0, 1, …
    """
    places = range(len(weights))
    counts = [floor(weight * n + 0.5) for weight in weights]

    # Of equal dates the first pool's comes first. What rounding found may differ from that in the last bit.
    def coming(place: int) -> tuple[float, int]:
        return (counts[place] + 0.5) / weights[place], place

    def last(place: int) -> tuple[float, int]:
        return (counts[place] - 0.5) / weights[place], place

    while True:
        missing = n - sum(counts)
        earliest, latest = min(map(coming, places)), max(map(last, places))
        if missing == 0 and latest < earliest:
            return counts
        if missing >= 0:
            counts[earliest[1]] += 1
        if missing <= 0:
            counts[latest[1]] -= 1
