"""Plans as arithmetic: never longer than the window, never less for more time."""

from dataclasses import replace
from datetime import UTC, datetime
from math import isclose

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pixel_pipeline.tokens.shards import ShardManifest, SplitManifest, TokenizerRef
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.config.curriculum import Curriculum, Stage
from pixel_pipeline.training.planning.memory import MicroBatch
from pixel_pipeline.training.planning.plan import Outcome, Plan, Speed
from pixel_pipeline.training.planning.report import _clock, _seconds

MANIFEST = ShardManifest(
    dataset_version="v",
    sequence_length=512,
    tokenizer=TokenizerRef(key="t", sha256="0", digest="0", vocab_size=400, pad_id=0, eos_id=2),
    splits={"train": SplitManifest(rows=100, tokens=50_000, loss_tokens=20_000, shards=[])},
    families={},
)
WINDOWS = st.floats(0, 50_000)
short = st.floats(0, 100)


@st.composite
def speeds(draw: st.DrawFn) -> Speed:
    fastest, expected, slowest = sorted(draw(st.tuples(*[st.floats(0.05, 50)] * 3)))
    return Speed(
        device="test",
        source="test",
        fastest=fastest,
        expected=expected,
        slowest=slowest,
        start_up=draw(short),
        checkpoint=draw(short),
        validation=draw(short),
        upload=draw(short),
        evaluation=draw(short),
        micro_batch=MicroBatch(2, False),
    )


@st.composite
def plans(draw: st.DrawFn, *, window: st.SearchStrategy[float | None] = WINDOWS) -> Plan:
    steps = draw(st.integers(1, 3000))
    first = draw(st.integers(1, steps))
    stages = [Stage(name="first", steps=first)]
    if first < steps:
        stages.append(Stage(name="rest", share=1.0))
    config = TrainingConfig(
        steps=steps,
        rows_per_step=2,
        learning_rate=1e-3,
        validations=draw(st.integers(1, 9)),
        checkpoint_every_seconds=draw(short),
        curriculum=Curriculum(stages=tuple(stages)),
    )
    return Plan(
        run="test",
        config=config,
        manifest=MANIFEST,
        done=draw(st.integers(0, steps - 1)),
        speed=draw(speeds()),
        window=draw(window),
    )


def simulated(plan: Plan, *, step: float, until: int) -> float:
    """Seconds of a window that is simulated step by step, with every checkpoint and validation; without its reserve."""
    times, validations = plan.times, plan.config.validation_steps()
    clock = times.start_up + (times.validation if plan.done == 0 else 0)
    saved = clock
    for number in range(plan.done + 1, until + 1):
        clock += step
        best = number in validations
        if best:
            clock += times.validation
        if best or clock - saved >= plan.config.checkpoint_every_seconds:
            clock += times.checkpoint
            saved = clock
    return clock


def outcomes(plan: Plan) -> list[Outcome]:
    return [plan.slowest, plan.expected, plan.fastest]


@given(plans())
def test_a_plan_never_exceeds_its_window(plan: Plan) -> None:
    assert plan.window is not None
    for outcome in outcomes(plan):
        assert plan.done <= outcome.reached <= plan.config.steps
        if outcome.reached > plan.done:
            took = simulated(plan, step=outcome.step_seconds, until=outcome.reached)
            times = plan.times
            reserve = 2 * outcome.step_seconds + 2 * times.checkpoint + times.upload + times.evaluation
            # A validation's checkpoint delays the next one by the clock, so there are at most as many as planned and one more.
            assert took + reserve <= plan.window + times.checkpoint + 1e-6
            assert outcome.seconds <= plan.window + 1e-6
    assert plan.fits == (plan.slowest.reached == plan.config.steps)


@given(plans(), st.floats(0, 50_000))
def test_more_hours_never_do_less(plan: Plan, more: float) -> None:
    assert plan.window is not None
    longer = replace(plan, window=plan.window + more)
    for before, after in zip(outcomes(plan), outcomes(longer), strict=True):
        assert after.reached >= before.reached
        if before.windows is not None:
            assert after.windows is not None
            assert after.windows <= before.windows
    reached = [outcome.reached for outcome in outcomes(plan)]
    assert reached == sorted(reached)


@given(plans())
def test_the_planned_windows_end_the_run(plan: Plan) -> None:
    windows, steps = plan.expected.windows, plan.config.steps
    for _ in range(windows or 0):
        assert plan.done < steps
        plan = replace(plan, done=plan.expected.reached)
    assert windows is None or plan.done == steps


@given(plans())
def test_stages_share_the_steps(plan: Plan) -> None:
    assert sum(steps for _, steps, _ in plan.stage_steps) == plan.config.steps
    assert sum(here for _, _, here in plan.stage_steps) == plan.expected.reached - plan.done
    assert all(0 <= here <= steps for _, steps, here in plan.stage_steps)


@given(plans(window=st.none()))
def test_without_a_window_the_run_ends(plan: Plan) -> None:
    assert plan.fits
    assert [outcome.windows for outcome in outcomes(plan)] == [1, 1, 1]
    assert isclose(plan.tokens_per_second * plan.times.expected, 1000)
    assert plan.fastest.seconds <= plan.expected.seconds <= plan.slowest.seconds


def test_a_window_by_hand() -> None:
    config = TrainingConfig(
        steps=100, rows_per_step=2, learning_rate=1e-3, validations=2, checkpoint_every_seconds=1e9
    )
    speed = Speed(
        device="test",
        source="by hand",
        fastest=1,
        expected=1,
        slowest=1,
        start_up=10,
        checkpoint=2,
        validation=3,
        upload=1,
        evaluation=4,
        micro_batch=MicroBatch(2, False),
    )

    def plan(window: float) -> Plan:
        return Plan(run="test", config=config, manifest=MANIFEST, done=0, speed=speed, window=window)

    # 10 to start, 3 to validate, n steps, 5 after the 50th; 2 steps, 2 checkpoints, the upload and the evaluation are reserved.
    found = plan(10 + 3 + 60 + 5 + 11 + 0.5)
    assert found.expected.reached == 60
    assert found.reserve == 11
    assert found.expected.windows == 2
    assert found.epochs == 2
    assert plan(13 + 11 + 0.5).expected.windows is None
    assert found.expected.seconds == pytest.approx(10 + 3 + 60 + 5 + 2 + 5)


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
