"""Plans as arithmetic: never more than the window, never less for more time."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from math import isclose

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.training.planning.plan import (
    Outcome,
    Overheads,
    Plan,
    StepTime,
    Workload,
    make_plan,
    reserve_seconds,
)
from pixel_pipeline.training.planning.report import _clock, _seconds

short = st.floats(0, 100)
step_times = st.lists(st.floats(0.05, 50), min_size=1, max_size=8).map(
    lambda seconds: StepTime.of(seconds, source="test")
)
overheads = st.builds(
    Overheads,
    start_up=short,
    checkpoint=short,
    checkpoint_every=short,
    validation=short,
    upload=short,
    evaluation=short,
)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    steps = draw(st.integers(1, 3000))
    done = draw(st.integers(0, steps - 1))
    validations = sorted({0, steps, *draw(st.lists(st.integers(0, steps), max_size=8))})
    cuts = sorted({0, steps, *draw(st.lists(st.integers(1, steps), max_size=3))})
    return Workload(
        steps=steps,
        done=done,
        validations=tuple(validations),
        tokens_per_step=draw(st.floats(1, 1e5)),
        epochs=1.0,
        stages=tuple((f"stage {number}", first, last) for number, (first, last) in enumerate(pairwise(cuts))),
    )


def played(work: Workload, over: Overheads, *, step: float, until: int) -> float:
    """Seconds of a window that is played step by step, with every checkpoint and validation that comes due; without its reserve."""
    clock = over.start_up + (over.validation if work.done == 0 else 0)
    saved = clock
    for number in range(work.done + 1, until + 1):
        clock += step
        best = number in work.validations
        if best:
            clock += over.validation
        if best or clock - saved >= over.checkpoint_every:
            clock += over.checkpoint
            saved = clock
    return clock


def outcomes(plan: Plan) -> list[Outcome]:
    return [plan.slowest, plan.expected, plan.fastest]


@given(work=workloads(), step=step_times, over=overheads, window=st.floats(0, 50_000))
def test_a_plan_never_exceeds_its_window(
    work: Workload, step: StepTime, over: Overheads, window: float
) -> None:
    plan = make_plan(work, step=step, overheads=over, window=window)
    for outcome in outcomes(plan):
        assert work.done <= outcome.reached <= work.steps
        if outcome.reached > work.done:
            took = played(work, over, step=outcome.step_seconds, until=outcome.reached)
            reserve = reserve_seconds(over, step_seconds=outcome.step_seconds)
            # A checkpoint by the clock that a validation has made early comes due again later: never more of them than reckoned,
            # but for the one at the end.
            assert took + reserve <= window + over.checkpoint + 1e-6
            assert outcome.seconds <= window + 1e-6
    assert plan.fits == (plan.slowest.reached == work.steps)


@given(
    work=workloads(), step=step_times, over=overheads, window=st.floats(0, 50_000), more=st.floats(0, 50_000)
)
def test_more_hours_never_do_less(
    work: Workload, step: StepTime, over: Overheads, window: float, more: float
) -> None:
    plan, longer = (make_plan(work, step=step, overheads=over, window=w) for w in (window, window + more))
    for less, rather in zip(outcomes(plan), outcomes(longer), strict=True):
        assert rather.reached >= less.reached
        if less.windows is not None:
            assert rather.windows is not None
            assert rather.windows <= less.windows
    reached = [outcome.reached for outcome in outcomes(plan)]
    assert reached == sorted(reached)


@given(work=workloads(), step=step_times, over=overheads, window=st.floats(0, 50_000))
def test_the_windows_that_are_counted_end_the_run(
    work: Workload, step: StepTime, over: Overheads, window: float
) -> None:
    plan = make_plan(work, step=step, overheads=over, window=window)
    windows = plan.expected.windows
    for _ in range(windows or 0):
        assert plan.work.done < work.steps
        work = replace(work, done=plan.expected.reached)
        if work.done < work.steps:
            plan = make_plan(work, step=step, overheads=over, window=window)
    if windows is not None:
        assert work.done == work.steps


@given(work=workloads(), step=step_times, over=overheads, window=st.floats(0, 50_000))
def test_stages_share_the_steps(work: Workload, step: StepTime, over: Overheads, window: float) -> None:
    plan = make_plan(work, step=step, overheads=over, window=window)
    assert sum(steps for _, steps, _ in plan.stage_steps) == work.steps
    assert sum(here for _, _, here in plan.stage_steps) == plan.expected.reached - work.done
    assert all(0 <= here <= steps for _, steps, here in plan.stage_steps)


@given(work=workloads(), step=step_times, over=overheads)
def test_without_a_window_the_run_ends(work: Workload, step: StepTime, over: Overheads) -> None:
    plan = make_plan(work, step=step, overheads=over, window=None)
    assert plan.fits
    assert [outcome.windows for outcome in outcomes(plan)] == [1, 1, 1]
    assert isclose(plan.tokens_per_second * step.expected, work.tokens_per_step)
    assert plan.fastest.seconds <= plan.expected.seconds <= plan.slowest.seconds


def test_a_window_by_hand() -> None:
    work = Workload(steps=100, done=0, validations=(0, 50, 100), tokens_per_step=1000, epochs=2)
    over = Overheads(start_up=10, checkpoint=2, checkpoint_every=1e9, validation=3, upload=1, evaluation=4)
    step = StepTime(fastest=1, expected=1, slowest=1, source="by hand")
    # 10 to start, 3 to validate, n steps, 5 after the 50th; 2 steps, 2 checkpoints and the evaluation are kept free.
    plan = make_plan(work, step=step, overheads=over, window=10 + 3 + 60 + 5 + 11 + 0.5)
    assert plan.expected.reached == 60
    assert plan.reserve == 11
    assert plan.expected.windows == 2
    assert make_plan(work, step=step, overheads=over, window=13 + 11 + 0.5).expected.windows is None
    assert plan.expected.seconds == pytest.approx(10 + 3 + 60 + 5 + 2 + 5)


def test_times_are_readable() -> None:
    assert [_seconds(s) for s in (0.44, 42, 119, 120.5, 3600 * 5 + 150)] == [
        "0.4 s",
        "42 s",
        "119 s",
        "3 min",
        "5 h 03 min",
    ]
    now = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    assert _clock(now, 600) == "23:40"
    assert _clock(now, 3600) == "Mon 02 Mar 00:30"
