"""A plan as text and as plain types. Torch-free."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from pixel_pipeline.training.planning.plan import Plan

GIB = 2**30


def plan_lines(plan: Plan, *, now: datetime) -> Iterator[str]:
    """The plan as lines of text."""
    if plan.finished:
        yield f"run {plan.run} is complete: there is nothing to train"
        return
    config, times, micro = plan.config, plan.times, plan.times.micro_batch
    train = plan.manifest.splits["train"]
    model = f"adapters on {config.base}" if config.base else f"{config.preset}, from scratch"
    if config.init_from:
        model = f"{model.removesuffix(', from scratch')}, starting from the weights of {config.init_from}"
    yield f"run        {plan.run}: {model}{', the dense baseline' if config.dense_baseline else ''}"
    yield (
        f"steps      {config.steps:,}{f', {plan.done:,} of them done' if plan.done else ''}: "
        f"{config.steps * plan.tokens_per_step:,.0f} tokens, {plan.epochs:.2f} epochs of {train.tokens:,} tokens"
    )
    if len(plan.stage_steps) > 1:
        yield "stages     " + ", ".join(
            f"{name} {steps:,}{f' ({here:,} in this window)' if plan.window is not None else ''}"
            for name, steps, here in plan.stage_steps
        )
    yield (
        f"batch      {config.rows_per_step} rows of {plan.manifest.sequence_length:,} tokens, {micro.rows} at a time"
        f"{', activations recomputed' if micro.checkpoint_activations else ''}"
    )
    yield f"device     {times.device}{_memory(plan)}"
    yield (
        f"speed      {plan.tokens_per_second:,.0f} tokens/s, {times.expected:.2f} s a step "
        f"({times.fastest:.2f} to {times.slowest:.2f}); {times.source}"
    )
    yield (
        f"overhead   start-up {_seconds(times.start_up)}, a validation {_seconds(times.validation)} ({config.validations + 1} times), "
        f"a checkpoint {_seconds(times.checkpoint)} (every {_seconds(config.checkpoint_every_seconds)}), "
        f"the last upload {_seconds(times.upload)}, evaluation {_seconds(times.evaluation)}"
        f"{'; assumed, not measured' if times.assumed else ''}"
    )
    yield from _window_lines(plan, now=now)


def _window_lines(plan: Plan, *, now: datetime) -> Iterator[str]:
    expected, fastest, slowest = plan.expected, plan.fastest, plan.slowest
    finish = (
        f"finish     {_clock(now, expected.seconds)} (between {_clock(now, fastest.seconds)} and "
        f"{_clock(now, slowest.seconds)}), after {_seconds(expected.seconds)}"
    )
    if plan.window is None:
        yield finish
        return
    yield f"window     {_seconds(plan.window)}, with {_seconds(plan.reserve)} reserved for its end"
    if plan.fits:
        yield f"{finish}: it fits"
    elif expected.windows is None:
        yield "finish     the window is too short for a step and its end; one step is done anyway. Allow more hours"
    else:
        reached = (
            f"{expected.reached:,} of {plan.config.steps:,} ({slowest.reached:,} to {fastest.reached:,})"
        )
        yield f"reaches    step {reached} by {_clock(now, expected.seconds)}"
        most = "more" if slowest.windows is None else f"{slowest.windows}"
        windows = most if f"{expected.windows}" == most else f"{expected.windows} to {most}"
        yield f"finish     needs {windows} windows of this length; the same command continues the run"


def plan_json(plan: Plan, *, now: datetime) -> dict[str, Any]:
    """The plan as plain types; times in seconds, memory in bytes."""
    config = plan.config
    content: dict[str, Any] = {
        "format": "pixel-plan/1",
        "run": plan.run,
        "finished": plan.finished,
        "config": config.model_dump(mode="json"),
    }
    if plan.finished:
        return content
    times = plan.times
    outcomes = {"fastest": plan.fastest, "expected": plan.expected, "slowest": plan.slowest}
    return content | {
        "device": times.device,
        "steps": config.steps,
        "steps_done": plan.done,
        "tokens": round(config.steps * plan.tokens_per_step),
        "tokens_in_window": round((plan.expected.reached - plan.done) * plan.tokens_per_step),
        "epochs": plan.epochs,
        "stages": [
            {"stage": name, "steps": steps, "steps_in_window": here} for name, steps, here in plan.stage_steps
        ],
        "tokens_per_second": plan.tokens_per_second,
        "step_seconds": {name: getattr(times, name) for name in (*outcomes, "source")},
        "overheads": {
            **{
                name: getattr(times, name)
                for name in ("start_up", "checkpoint", "validation", "upload", "evaluation")
            },
            "checkpoint_every": config.checkpoint_every_seconds,
        },
        "assumed": list(times.assumed),
        "window_seconds": plan.window,
        "reserve_seconds": plan.reserve,
        "fits": plan.fits,
        "outcomes": {
            name: {**outcome._asdict(), "ends": _after(now, outcome.seconds).isoformat(timespec="seconds")}
            for name, outcome in outcomes.items()
        },
        "memory": {
            "available": times.available_bytes,
            "peak": times.peak_bytes,
            "model": times.micro_batch.peak_bytes,
        },
    }


def _memory(plan: Plan) -> str:
    times = plan.times
    if times.peak_bytes is None or times.available_bytes is None:
        return ""
    predicted = times.micro_batch.peak_bytes
    return (
        f", {times.available_bytes / GIB:.1f} GiB of memory free; peak {times.peak_bytes / GIB:.1f} GiB"
        f"{f' (predicted: {predicted / GIB:.1f})' if predicted else ''}"
    )


def _seconds(seconds: float) -> str:
    """`0.4 s`, `42 s`, `12 min` or `5 h 03 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    hours, minutes = divmod(ceil(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _clock(now: datetime, seconds: float) -> str:
    """`14:32`, with the day if it is another one."""
    then = _after(now, seconds)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%a %d %b %H:%M}"


def _after(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
