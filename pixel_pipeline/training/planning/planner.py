"""Plans a run: its progress, its speed on this machine, and the outcome. Torch-free until steps are measured."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
import gc
from pathlib import Path
from time import monotonic
from typing import Any

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.base.opening import open_base
from pixel_pipeline.training.checkpoints.queries import read_state, runs_by_age
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, list_checkpoints
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import PlanError
from pixel_pipeline.training.evaluation.report import MOST_ROWS
from pixel_pipeline.training.planning.memory import MicroBatch
from pixel_pipeline.training.planning.plan import Plan, Speed, evaluated_rows, tokens_per_step
from pixel_pipeline.training.planning.run import Run
from pixel_pipeline.training.runtime.device import check_device, device_name
from pixel_pipeline.training.runtime.window import UPLOAD_BYTES_PER_SECOND

# Runs that agree in these fields, the base model, the row length and the device have the same speed for a token.
SPEED_FIELDS = ("adapters", "dense_baseline", "shape", "precision", "device")
# A run records only its mean speed; single steps, and other days, differ by about this share.
SPREAD = 0.15
START_UP_SECONDS = 120.0
WRITTEN_BYTES_PER_SECOND = 500e6
# The forward pass is a third of the work of a step.
FORWARD_SHARE = 1 / 3


class Source(StrEnum):
    """Source of the speed."""

    measure = "measure"
    last_run = "last-run"
    either = "either"


def plan_run(
    config: TrainingConfig,
    lake: Lake,
    manifest_key: str,
    *,
    run: str | None = None,
    hours: float | None,
    source: Source = Source.either,
    evaluates: bool = False,
    began: float,
    home: Path,
    report: Callable[[str], None],
) -> Plan:
    """Plan the next window of a run.

    Args:
        hours: Length of the window, from `began`; None: the rest of the run.
        source: `either` uses the last run's speed, or measures if there is none.
        evaluates: Whether an evaluation follows within the window.
        began: Start of this process, by `time.monotonic`.

    Raises:
        RunConflictError: `run` names a run of other inputs.
        PlanError: the last run's speed is requested, and there is none.
        InitialWeightsError: `config.init_from` names weights that do not fit the run.
        DeviceError, BaseModelError, TrainingDataError, TrainingMemoryError: see their classes.
    """
    device = check_device(config.device)
    planned = Run.of(config, lake, manifest_key, name=run)
    manifest = planned.manifest
    newest = max(list_checkpoints(lake.checkpoints, planned.name), default=None)
    done = newest.step if newest else 0
    plan = Plan(run=planned.name, config=config, manifest=manifest, done=done, speed=None)
    if newest is None:
        planned.check_initial_weights(lake)
    else:
        planned.state(lake, newest)
        if CheckpointManifest.load(lake, newest).final:
            return plan
    speed = None
    if source is not Source.measure:
        speed = last_speed(lake, planned, device=device_name(device))
    if speed is None and source is Source.last_run:
        raise PlanError(
            "No earlier run has this base model, these adapters, this row length and this device.",
            hint="Leave out --from-last-run to measure steps.",
        )
    if speed is None:
        import torch

        from pixel_pipeline.training.planning.measure import measure_speed

        speed = measure_speed(
            config,
            lake=lake,
            manifest=manifest,
            base=open_base(lake, config.base, home=home) if config.base else None,
            device=torch.device(device),
            cache=home / "cache",
            began=began,
            report=report,
        )
        # Trainer and module reference each other and keep the measured model alive; the run needs its memory.
        gc.collect()
        torch.cuda.empty_cache()
    return replace(
        plan,
        config=speed.micro_batch.applied_to(config),
        speed=speed if evaluates else replace(speed, evaluation=0.0),
        # Planning itself took time.
        window=None if hours is None else max(hours * 3600 - (monotonic() - began), 0),
    )


def last_speed(lake: Lake, planned: Run, *, device: str) -> Speed | None:
    """Speed of the newest run with the same base model, adapters, row length and device; None if there is none.

    Args:
        device: As named by `device_name`.
    """
    config, manifest = planned.config, planned.manifest
    wanted = _kind(planned.identity, device)
    rows, recompute = config.rows_per_micro_batch, config.checkpoint_activations
    for run in runs_by_age(lake):
        ref = max(list_checkpoints(lake.checkpoints, run), default=None)
        state = read_state(lake, ref) if ref is not None else None
        if ref is None or state is None or not state.history.tokens_per_second:
            continue
        execution = state.execution
        its_rows = int(execution.get("rows_per_micro_batch") or config.rows_per_step)
        its_recompute = bool(execution.get("checkpoint_activations"))
        if _kind(state.identity, execution.get("device")) != wanted:
            continue
        if rows not in (None, its_rows) or recompute > its_recompute:
            continue
        rate = state.history.tokens_per_second
        step = tokens_per_step(config, manifest) / rate
        row = manifest.sequence_length / rate * FORWARD_SHARE
        stored = sum(file.bytes for file in CheckpointManifest.load(lake, ref).files.values())
        evaluated = evaluated_rows(manifest, limit=MOST_ROWS, adapters=config.base is not None)
        return Speed(
            device=device,
            source=f"run {run} did {rate:,.0f} tokens/s",
            fastest=step * (1 - SPREAD),
            expected=step,
            slowest=step * (1 + SPREAD),
            start_up=START_UP_SECONDS,
            checkpoint=stored / WRITTEN_BYTES_PER_SECOND,
            validation=row * config.validation_rows,
            upload=stored / UPLOAD_BYTES_PER_SECOND,
            evaluation=START_UP_SECONDS + row * evaluated,
            micro_batch=MicroBatch(rows or min(its_rows, config.rows_per_step), its_recompute),
            assumed=("start_up", "checkpoint", "validation", "upload", "evaluation"),
        )
    return None


def _kind(identity: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    fields = {name: identity["config"].get(name) for name in SPEED_FIELDS}
    return {**fields, "base": identity["base"], "length": identity["sequence_length"], "on": device}
