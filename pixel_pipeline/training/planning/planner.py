"""Plans a run: where it stands, how fast this machine is at it, and what that comes to. Torch-free until steps are measured."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
import gc
from pathlib import Path
from time import monotonic

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.opening import digest_of_base, open_base
from pixel_pipeline.training.checkpoints.queries import read_state
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, list_checkpoints
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import PlanError, RunConflictError
from pixel_pipeline.training.planning.initial_weights import InitialWeights
from pixel_pipeline.training.planning.last_run import average_step_tokens, last_speed
from pixel_pipeline.training.planning.plan import Plan, Workload, make_plan
from pixel_pipeline.training.planning.speed import Speed
from pixel_pipeline.training.runtime.device import check_device, device_name
from pixel_pipeline.training.runtime.identity import run_identity, run_name


class Source(StrEnum):
    """Where the speed is taken from."""

    measure = "measure"
    last_run = "last-run"
    either = "either"


@dataclass(frozen=True)
class PlannedRun:
    """A run and what is expected of it.

    Attributes:
        config: With the micro-batch that was chosen.
        finished: The run is complete; there is nothing to plan.
    """

    run: str
    config: TrainingConfig
    manifest: ShardManifest
    finished: bool
    plan: Plan | None
    speed: Speed | None


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
) -> PlannedRun:
    """Plan the next window of a run.

    Args:
        hours: Of the window, from `began`; None: no window.
        source: `either` takes the last run's speed and measures where there is none.
        evaluates: An evaluation follows within the window.
        began: Of `time.monotonic`: when this process began.

    Raises:
        RunConflictError: `run` names a run of other inputs.
        PlanError: the last run's speed is wanted, and there is none.
        InitialWeightsError: `config.init_from` names weights that do not fit the run.
        DeviceError, BaseModelError, TrainingDataError, TrainingMemoryError: see their classes.
    """
    device = check_device(config.device)
    manifest = ShardManifest.load(lake.data, manifest_key)
    digest = digest_of_base(lake, config.base) if config.base else None
    initial = InitialWeights.find(lake, config.init_from) if config.init_from else None
    init_from = initial.identity() if initial else None
    name = run or run_name(config, manifest, base_digest=digest, init_from=init_from)
    newest = max(list_checkpoints(lake.checkpoints, name), default=None)
    done = 0
    if newest is not None:
        state = read_state(lake, newest)
        identity = run_identity(config, manifest, base_digest=digest, init_from=init_from)
        if state is None or state.identity != identity:
            raise run_conflict(name)
        done = newest.step
        if CheckpointManifest.load(lake, newest).final:
            return PlannedRun(
                run=name, config=config, manifest=manifest, finished=True, plan=None, speed=None
            )
    elif initial is not None:
        initial.check(lake, config, manifest, base_digest=digest)
    speed = None
    if source is not Source.measure:
        speed = last_speed(lake, config, manifest, base_digest=digest, device=device_name(device))
    if speed is None and source is Source.last_run:
        raise PlanError(
            "No run with this base model, these adapters, this row length and this device is known.",
            hint="Leave --from-last-run out: steps are measured then.",
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
        # Trainer and module hold each other, and the measured model with them; the run needs its memory.
        gc.collect()
        torch.cuda.empty_cache()
    if not evaluates:
        speed = replace(speed, overheads=replace(speed.overheads, evaluation=0.0))
    micro = speed.micro_batch
    config = config.model_copy(
        update={
            "rows_per_micro_batch": micro.rows,
            "checkpoint_activations": micro.checkpoint_activations,
        }
    )
    return PlannedRun(
        run=name,
        config=config,
        manifest=manifest,
        finished=False,
        # What planning took is gone.
        plan=make_plan(
            workload(config, manifest, done=done),
            step=speed.step,
            overheads=speed.overheads,
            window=None if hours is None else max(hours * 3600 - (monotonic() - began), 0),
        ),
        speed=speed,
    )


def workload(config: TrainingConfig, manifest: ShardManifest, *, done: int) -> Workload:
    """The run as a plan sees it.

    Raises:
        CurriculumError: the curriculum does not fit the number of steps.
    """
    rows = manifest.splits["train"].rows
    stages = config.curriculum.resolve(config.steps)
    return Workload(
        steps=config.steps,
        done=done,
        validations=config.validation_steps(),
        tokens_per_step=average_step_tokens(config, manifest),
        epochs=config.steps * config.rows_per_step / max(rows, 1),
        stages=tuple((part.stage.name, part.start, part.end) for part in stages),
    )


def run_conflict(run: str) -> RunConflictError:
    """The error of a name that is taken."""
    return RunConflictError(
        f"Run {run} was trained on other data, with another configuration or other code.",
        hint="Leave the run's name out, or choose one that is free.",
    )
