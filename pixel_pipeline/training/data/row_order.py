"""Which rows each step of a run reads: a pure function of the step. Torch-free.

Every family is one stream of rows over the whole run: all its rows in a seeded order, then all of them in another order, and so on.
In a stage, families matched by the same patterns form a pool. Rows are dealt to the pools by Webster's method (major fractions, 1832):
at every row, each pool has its share of the rows so far to within about one. Within a pool, families get rows in proportion to their
sizes: exactly so over each round, which has as many rows as the pool.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import ceil, fsum

import numpy as np
from numpy.typing import NDArray

from pixel_pipeline.training.config.curriculum import Curriculum, Stage, StageSteps

Ints = NDArray[np.int32]


class RowOrder:
    """The rows of each step, 4 bytes a row of the run in memory.

    Args:
        families: Family of each row.
        categories: Category of each family, which a curriculum may name; by default the family's own name.
        steps: Of the whole run.

    Raises:
        TrainingConfigError: the curriculum does not fit the rows' families or the number of steps.
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
        self._parts = curriculum.resolve(steps)
        names = sorted(set(families))
        numbers = {name: number for number, name in enumerate(names)}
        family_of_row = np.fromiter((numbers[name] for name in families), np.int32, len(families))
        sizes = np.bincount(family_of_row, minlength=len(names)).tolist()
        family_at = np.concatenate(
            [
                _stage_families(
                    _pools(
                        part.stage, sizes=dict(zip(names, sizes, strict=True)), categories=categories or {}
                    ),
                    {name: (numbers[name], sizes[numbers[name]]) for name in names},
                    steps=part.end - part.start,
                    rows_per_step=rows_per_step,
                    seed=[seed, 1, number],
                )
                for number, part in enumerate(self._parts)
            ]
        )
        rows = np.empty(len(family_at), np.int32)
        for number, (at, own) in enumerate(
            zip(_positions(family_at, len(names)), _positions(family_of_row, len(names)), strict=True)
        ):
            epochs = range(ceil(len(at) / len(own)))
            orders = [np.random.default_rng([seed, 0, number, epoch]).permutation(own) for epoch in epochs]
            rows[at] = np.concatenate([own[:0], *orders])[: len(at)]
        self._rows = rows.reshape(steps, rows_per_step)

    def rows(self, step: int) -> list[int]:
        """Indices of the rows that a step reads."""
        self.part(step)
        rows: list[int] = self._rows[step].tolist()
        return rows

    def part(self, step: int) -> StageSteps:
        """The stage that a step belongs to, and its steps."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is outside the run's {self.steps}")
        return self._parts[bisect_right(self._parts, step, key=lambda part: part.start) - 1]


def _stage_families(
    pools: Mapping[tuple[str, ...], float],
    families: Mapping[str, tuple[int, int]],
    *,
    steps: int,
    rows_per_step: int,
    seed: Sequence[int],
) -> Ints:
    """Family of every row that a stage reads. `families` maps a name to its number and size."""
    pool_at = _apportioned([*pools.values()], steps * rows_per_step)
    family_at = np.empty(len(pool_at), np.int32)
    for place, (at, pool) in enumerate(zip(_positions(pool_at, len(pools)), pools, strict=True)):
        members, sizes = zip(*(families[name] for name in pool), strict=True)
        cards = np.repeat(np.arange(len(members), dtype=np.int16), sizes)
        rounds = []
        for number in range(ceil(len(at) / len(cards))):
            rounds.append(cards.copy())
            np.random.default_rng([*seed, place, number]).shuffle(rounds[-1])
        family_at[at] = np.array(members, np.int32)[np.concatenate([cards[:0], *rounds])[: len(at)]]
    # Within a step, pool by pool.
    order = pool_at.reshape(steps, rows_per_step).argsort(axis=1, kind="stable")
    return np.take_along_axis(family_at.reshape(steps, rows_per_step), order, axis=1).ravel()


def _apportioned(weights: Sequence[float], count: int) -> NDArray[np.int16]:
    """Place in `weights` of each of `count` rows; the weights sum to 1.

    Webster's method: the k-th row of a place is due at (k + 1/2) / weight, and rows come in the order of their dates.
    """
    dates = [(np.arange(ceil(weight * count) + 1) + 0.5) / weight for weight in weights]
    places = np.repeat(np.arange(len(weights), dtype=np.int16), [len(own) for own in dates])
    return places[np.argsort(np.concatenate(dates), kind="stable")[:count]]


def _positions(values: NDArray[np.integer], count: int) -> list[Ints]:
    """Positions of each value 0, 1, … `count` - 1, ascending."""
    ends = np.cumsum(np.bincount(values, minlength=count))[:-1]
    return np.split(np.argsort(values, kind="stable").astype(np.int32), ends)


def _pools(
    stage: Stage, *, sizes: Mapping[str, int], categories: Mapping[str, str]
) -> dict[tuple[str, ...], float]:
    """Families that the same patterns match, with their share of the stage's rows; the shares sum to 1."""
    matched = stage.matched(sizes, categories=categories)
    by_patterns: dict[tuple[str, ...], list[str]] = {}
    for family in sorted(sizes):
        if patterns := tuple(pattern for pattern, members in matched.items() if family in members):
            by_patterns.setdefault(patterns, []).append(family)
    total = fsum(stage.families.values())
    rows_of = {pattern: sum(sizes[family] for family in members) for pattern, members in matched.items()}
    return {
        tuple(pool): fsum(
            stage.families[pattern] / total * sum(sizes[family] for family in pool) / rows_of[pattern]
            for pattern in patterns
        )
        for patterns, pool in by_patterns.items()
    }
