"""A plan for a person, and as plain types. Torch-free."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from pixel_pipeline.training.planning.plan import Plan
from pixel_pipeline.training.planning.planner import PlannedRun

GIB = 2**30


def plan_lines(planned: PlannedRun, *, now: datetime) -> Iterator[str]:
    """What a person is told, line by line."""
    plan, speed, config = planned.plan, planned.speed, planned.config
    if plan is None or speed is None:
        yield f"run {planned.run} is complete: there is nothing to train"
        return
    work = plan.work
    model = f"adapters on {config.base}" if config.base else f"{config.preset}, from scratch"
    yield f"run        {planned.run}: {model}{', the dense baseline' if config.dense_baseline else ''}"
    yield (
        f"steps      {work.steps:,}{f', {work.done:,} of them done' if work.done else ''}: "
        f"{work.steps * work.tokens_per_step:,.0f} tokens, {work.epochs:.2f} epochs of {planned.manifest.splits['train'].tokens:,} tokens"
    )
    if len(work.stages) > 1:
        yield "stages     " + ", ".join(
            f"{name} {steps:,}{f' ({here:,} in this window)' if plan.window is not None else ''}"
            for name, steps, here in plan.stage_steps
        )
    yield (
        f"batch      {config.rows_per_step} rows of {planned.manifest.sequence_length:,} tokens, {speed.micro_batch.rows} at a time"
        f"{', activations computed twice' if speed.micro_batch.checkpoint_activations else ''}"
    )
    yield f"device     {speed.device}{_memory(planned)}"
    yield (
        f"speed      {plan.tokens_per_second:,.0f} tokens/s, {plan.step.expected:.2f} s a step "
        f"({plan.step.fastest:.2f} to {plan.step.slowest:.2f}); {plan.step.source}"
    )
    over = plan.overheads
    yield (
        f"besides    start-up {_seconds(over.start_up)}, a validation {_seconds(over.validation)} ({config.validations + 1} times), "
        f"a checkpoint {_seconds(over.checkpoint)} (every {_seconds(over.checkpoint_every)}), the last upload {_seconds(over.upload)}, evaluation {_seconds(over.evaluation)}"
        f"{'; assumed, not measured' if speed.assumed else ''}"
    )
    yield from _window_lines(plan, now=now)


def _window_lines(plan: Plan, *, now: datetime) -> Iterator[str]:
    expected, fastest, slowest = plan.expected, plan.fastest, plan.slowest
    finish = f"{_clock(now, expected.seconds)} (between {_clock(now, fastest.seconds)} and {_clock(now, slowest.seconds)})"
    if plan.window is None:
        yield f"finish     {finish}, after {_seconds(expected.seconds)}"
        return
    yield f"window     {_seconds(plan.window)}, of which {_seconds(plan.reserve)} are kept free for its end"
    if plan.fits:
        yield f"finish     {finish}, after {_seconds(expected.seconds)}: it fits"
        return
    if expected.windows is None:
        yield "finish     the window is too short for a step and its end; one step is done all the same: give it more hours"
        return
    reached = f"step {expected.reached:,} of {plan.work.steps:,} ({slowest.reached:,} to {fastest.reached:,})"
    yield f"reaches    {reached} by {_clock(now, expected.seconds)}"
    most = f"{slowest.windows}" if slowest.windows is not None else "more"
    windows = (
        f"{expected.windows}" if expected.windows == slowest.windows else f"{expected.windows} to {most}"
    )
    yield f"finish     it takes {windows} windows of this length; the same command goes on with the run"


def plan_json(planned: PlannedRun, *, now: datetime) -> dict[str, Any]:
    """The plan as plain types; times in seconds, memory in bytes."""
    content: dict[str, Any] = {
        "format": "pixel-plan/1",
        "run": planned.run,
        "finished": planned.finished,
        "config": planned.config.model_dump(mode="json"),
    }
    plan, speed = planned.plan, planned.speed
    if plan is None or speed is None:
        return content
    work = plan.work
    outcomes = {
        name: {
            **asdict(outcome),
            "ends": (now + timedelta(seconds=outcome.seconds)).isoformat(timespec="seconds"),
        }
        for name, outcome in (
            ("fastest", plan.fastest),
            ("expected", plan.expected),
            ("slowest", plan.slowest),
        )
    }
    return content | {
        "device": speed.device,
        "steps": work.steps,
        "steps_done": work.done,
        "tokens": round(work.steps * work.tokens_per_step),
        "tokens_in_window": round((plan.expected.reached - work.done) * work.tokens_per_step),
        "epochs": work.epochs,
        "stages": [
            {"stage": name, "steps": steps, "steps_in_window": here} for name, steps, here in plan.stage_steps
        ],
        "tokens_per_second": plan.tokens_per_second,
        "step_seconds": asdict(plan.step),
        "overheads": asdict(plan.overheads),
        "assumed": list(speed.assumed),
        "window_seconds": plan.window,
        "reserve_seconds": plan.reserve,
        "fits": plan.fits,
        "outcomes": outcomes,
        "memory": {
            "available": speed.available_bytes,
            "peak": speed.peak_bytes,
            "model": speed.micro_batch.peak_bytes,
        },
    }


def _memory(planned: PlannedRun) -> str:
    speed = planned.speed
    assert speed is not None
    if speed.peak_bytes is None or speed.available_bytes is None:
        return ""
    foretold = speed.micro_batch.peak_bytes
    return (
        f", {speed.available_bytes / GIB:.1f} GiB of memory free; {speed.peak_bytes / GIB:.1f} GiB taken at most"
        f"{f' (foretold: {foretold / GIB:.1f})' if foretold else ''}"
    )


def _seconds(seconds: float) -> str:
    """`0.4 s`, `42 s`, `12 min` or `5 h 03 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    hours, minutes = divmod(ceil(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _clock(now: datetime, seconds: float) -> str:
    """`14:32`, with the day where it is another one."""
    then = now + timedelta(seconds=seconds)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%a %d %b %H:%M}"
