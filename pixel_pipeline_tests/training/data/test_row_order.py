"""Row order: the same after any interruption, every row once before any row twice, and shares by weight."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.training.config.curriculum import Curriculum
from pixel_pipeline.training.data.row_order import RowOrder

NAMES = ("anger", "calm", "grief", "sleep", "work")
CATEGORIES = {"anger": "hard", "grief": "hard", "calm": "soft", "sleep": "soft", "work": "other"}
PATTERNS = ("*", "hard", "soft", "?alm", "sleep", "a*")


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of a RowOrder with a fitting curriculum."""
    families = [*NAMES, *draw(st.lists(st.sampled_from(NAMES), max_size=40))]
    count = draw(st.integers(1, 3))
    shares = {1: [1.0], 2: [0.25, 0.75], 3: [0.5, 0.2, 0.3]}[count]
    weights = st.dictionaries(st.sampled_from(PATTERNS), st.sampled_from([0.5, 1, 2, 7]), min_size=1)
    curriculum = Curriculum.model_validate(
        {
            "stages": [
                {"name": f"s{n}", "share": share, "families": draw(weights)} for n, share in enumerate(shares)
            ],
            "mode": draw(st.sampled_from(["sequence", "mixed"])),
        }
    )
    return {
        "families": draw(st.permutations(families)),
        "curriculum": curriculum,
        "steps": draw(st.integers(10, 40)),
        "rows_per_step": draw(st.integers(1, 9)),
        "seed": draw(st.integers(0, 3)),
        "categories": CATEGORIES,
    }


def batches(order: RowOrder) -> list[list[int]]:
    return [order.rows(step) for step in range(order.steps)]


def natural(rows: int, *, steps: int, rows_per_step: int, seed: int = 5) -> RowOrder:
    families = [NAMES[row * row % 5] for row in range(rows)]
    return RowOrder(families, curriculum=Curriculum(), steps=steps, rows_per_step=rows_per_step, seed=seed)


@given(arguments=orders(), data=st.data())
def test_a_resumed_run_reads_the_same_rows(arguments: dict[str, Any], data: st.DataObject) -> None:
    """Steps may be read in any order."""
    whole = batches(RowOrder(**arguments))
    assert all(len(batch) == arguments["rows_per_step"] for batch in whole)
    again = RowOrder(**arguments)
    for step in data.draw(st.lists(st.integers(0, arguments["steps"] - 1), max_size=8)):
        assert again.rows(step) == whole[step]


@given(arguments=orders())
def test_a_familys_rows_are_read_once_before_any_is_read_twice(arguments: dict[str, Any]) -> None:
    """Over all stages."""
    families = arguments["families"]
    read: dict[str, list[int]] = {}
    for batch in batches(RowOrder(**arguments)):
        for row in batch:
            read.setdefault(families[row], []).append(row)
    for family, rows in read.items():
        size = families.count(family)
        for start in range(0, len(rows), size):
            epoch = rows[start : start + size]
            assert len(set(epoch)) == len(epoch)


@given(rows=st.integers(1, 40), rows_per_step=st.integers(1, 9), steps=st.integers(1, 40))
def test_by_default_every_row_is_read(rows: int, rows_per_step: int, steps: int) -> None:
    seen = [
        row for batch in batches(natural(rows, steps=steps, rows_per_step=rows_per_step)) for row in batch
    ]
    for start in range(0, len(seen) - rows + 1, rows):
        assert sorted(seen[start : start + rows]) == [*range(rows)]


@given(arguments=orders())
def test_shares_follow_the_weights(arguments: dict[str, Any]) -> None:
    """With families of equal size, to within two rows for each stage and family."""
    arguments["families"] = [*NAMES] * 8
    order = RowOrder(**arguments)
    expected: Counter[str] = Counter()
    for step in range(order.steps):
        weights = order.part(step).stage.families
        for pattern, weight in weights.items():
            matched = [name for name in NAMES if _matches(pattern, name)]
            for name in matched:
                share = weight / sum(weights.values()) / len(matched)
                expected[name] += arguments["rows_per_step"] * share  # type: ignore[assignment]
    read = Counter(arguments["families"][row] for batch in batches(order) for row in batch)
    # Within a pool, shares are exact over whole rounds only.
    pools = 2 * len(arguments["curriculum"].stages)
    for name in NAMES:
        assert abs(read[name] - expected[name]) <= pools + 8 * len(arguments["curriculum"].stages), name
        assert (read[name] > 0) <= (expected[name] > 0)


def _matches(pattern: str, name: str) -> bool:
    return {
        "*": True,
        "?alm": name == "calm",
        "a*": name == "anger",
    }.get(pattern, pattern in (name, CATEGORIES[name]))


def test_weights_of_families_hold_at_every_step() -> None:
    curriculum = Curriculum.model_validate(
        {"stages": [{"name": "a", "share": 1, "families": {"calm": 5, "work": 3}}]}
    )
    families = ["calm"] * 3 + ["work"] * 90 + ["sleep"] * 10
    order = RowOrder(families, curriculum=curriculum, steps=60, rows_per_step=7, seed=1)
    read: Counter[str] = Counter()
    for step, batch in enumerate(batches(order), 1):
        read.update(families[row] for row in batch)
        assert abs(read["calm"] - step * 7 * 5 / 8) <= 0.5
        assert abs(read["work"] - step * 7 * 3 / 8) <= 0.5


def test_each_epoch_and_seed_has_its_own_order() -> None:
    order = natural(30, steps=2, rows_per_step=30)
    assert order.rows(0) != order.rows(1)
    assert natural(30, steps=2, rows_per_step=30, seed=6).rows(0) != order.rows(0)


def test_a_step_knows_its_stage() -> None:
    curriculum = Curriculum.model_validate({"stages": [{"name": "a", "steps": 3}, {"name": "b", "steps": 2}]})
    order = RowOrder(["calm"], curriculum=curriculum, steps=5, rows_per_step=1, seed=0)
    assert [order.part(step).stage.name for step in range(5)] == ["a", "a", "a", "b", "b"]
    for step in (-1, 5):
        with pytest.raises(IndexError):
            order.rows(step)
