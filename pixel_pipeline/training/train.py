"""The training process: plans the window, trains, and reports. Torch-free until there are steps to train.

`python -m pixel_pipeline.training.train` is the process that Dagster starts through Pipes; `pixel train` does the same in a terminal.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
import sys
from time import monotonic
from typing import Any

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.training.base.opening import open_base
from pixel_pipeline.training.checkpoints.queries import read_state
from pixel_pipeline.training.checkpoints.result import TrainingResult
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.store import (
    CheckpointManifest,
    CheckpointRef,
    list_checkpoints,
    point_to,
)
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.planning.plan import Plan
from pixel_pipeline.training.planning.planner import plan_run
from pixel_pipeline.training.planning.report import plan_lines
from pixel_pipeline.training.planning.run import Run
from pixel_pipeline.training.planning.session import Session
from pixel_pipeline.training.runtime.device import check_device, device_name
from pixel_pipeline.training.runtime.hosting import Host, run_hosted
from pixel_pipeline.training.runtime.identity import LIBRARIES
from pixel_pipeline.versions import library_versions

# A crash of the server may damage the newest.
KEPT_CHECKPOINTS = 2


def train(
    config: TrainingConfig,
    lake: Lake,
    manifest_key: str,
    *,
    run: str | None = None,
    report: Callable[[str], None],
    git_revision: str,
    cache: Path | None = None,
    home: Path | None = None,
    deadline: float | None = None,
) -> TrainingResult:
    """Train a run to its last step, or until the window ends: from the start or from its newest checkpoint.

    Args:
        manifest_key: Of the token shards, in the data bucket.
        run: Name of the run; derived from dataset, configuration and recipe if not given.
        report: Receives readable progress lines.
        git_revision: Recorded in the checkpoints.
        cache: Folder for local copies of shards; `<home>/cache` if not given.
        home: Folder for logs and the base model's local copy; PIXEL_HOME if not given.
        deadline: When the last checkpoint must be in the lake, by `time.monotonic`.

    Raises:
        DeviceError: the configured device does not exist.
        TrainingInterruptedError: SIGINT or SIGTERM ended training; its checkpoint is in the lake.
        RunConflictError: `run` names a run of other inputs.
        InitialWeightsError: `config.init_from` names weights that do not fit the run.
        BaseModelError, TrainingDataError, TrainingDivergedError, TrainingMemoryError, CheckpointCorruptError: see there.
    """
    device = check_device(config.device)
    home = home or get_settings().home
    inputs = Run.of(config, lake, manifest_key, name=run)
    newest = max(list_checkpoints(lake.checkpoints, inputs.name), default=None)
    if newest is not None and CheckpointManifest.load(lake, newest).final:
        inputs.state(lake, newest)
        return _reused(lake, newest, report=report)
    spool = home / "spool" / inputs.name
    with CheckpointUploads(
        lake, run=inputs.name, spool=spool, keep=KEPT_CHECKPOINTS, report=report
    ) as uploads:
        # An earlier process may have left a newer checkpoint on this disk.
        step = uploads.recover()
        newest = None if step is None else CheckpointRef(run=inputs.name, step=step)
        if newest is None:
            inputs.check_initial_weights(lake)
            start = RunState(step=0, identity=inputs.identity)
        else:
            start = inputs.state(lake, newest)
            if CheckpointManifest.load(lake, newest).final:
                return _reused(lake, newest, report=report)
        fresh = f"starting from the weights of {inputs.initial.ref.prefix}" if inputs.initial else "starting"
        report(
            f"run {inputs.name}: {f'continuing from step {start.step}' if start.step else fresh} on {device}"
        )
        import torch

        from pixel_pipeline.training.loop.trainer import Fit
        from pixel_pipeline.training.planning.measure import first_micro_batch

        base = open_base(lake, config.base, home=home) if config.base else None
        config = first_micro_batch(
            config, base=base, row_tokens=inputs.manifest.sequence_length, device=torch.device(device)
        ).applied_to(config)
        final = Fit(
            config=config,
            lake=lake,
            manifest=inputs.manifest,
            run=inputs.name,
            start=replace(
                start,
                manifest_key=manifest_key,
                git_revision=git_revision,
                libraries=library_versions(*LIBRARIES),
                execution={
                    "device": device_name(device),
                    "rows_per_micro_batch": config.rows_per_micro_batch,
                    "checkpoint_activations": config.checkpoint_activations,
                    "compile": config.compile,
                },
            ),
            uploads=uploads,
            base=base,
            initial=inputs.initial.ref if inputs.initial else None,
            home=home,
            cache=cache or home / "cache",
            device=torch.device(device),
            deadline=deadline,
            report=report,
        ).run_to_end()
    return _result(lake, final, reused=False, resumed_from=newest.step if newest else None)


def _reused(lake: Lake, ref: CheckpointRef, *, report: Callable[[str], None]) -> TrainingResult:
    point_to(lake, ref, final=True)
    report(f"run {ref.run} is complete: {ref.uri(lake)}; nothing to train")
    return _result(lake, ref, reused=True, resumed_from=None)


def _result(lake: Lake, ref: CheckpointRef, *, reused: bool, resumed_from: int | None) -> TrainingResult:
    state, manifest = read_state(lake, ref), CheckpointManifest.load(lake, ref)
    assert state is not None, "the trainer writes it"
    return TrainingResult(
        checkpoint=ref,
        uri=ref.uri(lake),
        model_sha256=manifest.weights.sha256,
        dataset_version=state.identity["dataset_version"],
        git_revision=state.git_revision,
        parameters=state.parameters,
        history=state.history,
        reused=reused,
        resumed_from=resumed_from,
        finished=manifest.final,
    )


def train_session(host: Host, lake: Lake, session: Session, *, began: float) -> TrainingResult:
    """Plan the window if there is one, train, and report the result. Raises as `train` and `plan_run` do.

    Args:
        began: Start of this process, by `time.monotonic`.
    """
    config, plan, deadline = session.config, None, None
    if session.hours is not None:
        deadline = began + session.hours * 3600
        plan = plan_run(
            config,
            lake,
            session.manifest_key,
            run=session.run,
            hours=session.hours,
            evaluates=session.evaluates,
            began=began,
            home=get_settings().home,
            report=host.report,
        )
        for line in plan_lines(plan, now=datetime.now().astimezone()):
            host.report(line)
        config = plan.config
        if not plan.finished:
            deadline -= plan.times.evaluation
    result = train(
        config,
        lake,
        session.manifest_key,
        run=session.run,
        report=host.report,
        git_revision=session.git_revision,
        deadline=deadline,
    )
    from pixel_pipeline.training.evaluation.overview import run_metadata

    host.materialize(
        metadata={**run_metadata(result), **_plan_metadata(plan, seconds=monotonic() - began)},
        data_version=result.model_sha256,
    )
    first, last = (result.history.validations[place].loss for place in (0, -1))
    host.report(
        f"{result.status}: {result.uri}  validation loss {first:.2f} -> {last:.2f} ({result.validation_ratio:.0%})"
    )
    if not result.finished:
        left = config.steps - result.checkpoint.step
        host.report(f"{left:,} of {config.steps:,} steps are left: the same command continues with them")
    return result


def _plan_metadata(plan: Plan | None, *, seconds: float) -> dict[str, Any]:
    """Figures that compare the plan with the run; empty without a plan."""
    if plan is None or plan.finished:
        return {}
    return {
        "planned steps": f"{plan.expected.reached:,} ({plan.slowest.reached:,} to {plan.fastest.reached:,})",
        "planned tokens per second": f"{plan.tokens_per_second:,.0f}",
        "planned duration": f"{plan.expected.seconds / 60:,.1f} min",
        "duration": f"{seconds / 60:,.1f} min",
        "planned by": plan.times.source,
        "planned windows": plan.expected.windows or 0,
    }


def main() -> int:
    """The training process that Dagster starts; returns its exit status."""
    began = monotonic()

    def body(host: Host) -> None:
        session = Session.from_json(host.task(verb="pixel train"))
        train_session(host, Lake.open(get_settings()), session, began=began)

    return run_hosted(body)


if __name__ == "__main__":
    sys.exit(main())
