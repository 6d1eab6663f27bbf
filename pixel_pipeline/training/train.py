"""Trains a model from token shards, or finds that it has been trained. Torch-free until there are steps to do.

`python -m pixel_pipeline.training.train` is the process that Dagster starts through Pipes; `pixel train` does the same in a terminal.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
import sys

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.base.opening import digest_of_base, open_base
from pixel_pipeline.training.checkpoints.queries import read_state
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.store import (
    CheckpointManifest,
    CheckpointRef,
    list_checkpoints,
    point_to,
)
from pixel_pipeline.training.checkpoints.uploads import CheckpointUploads
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.loop.history import History
from pixel_pipeline.training.planning.initial_weights import InitialWeights
from pixel_pipeline.training.planning.planner import run_conflict
from pixel_pipeline.training.runtime.device import check_device, device_name
from pixel_pipeline.training.runtime.identity import LIBRARIES, run_identity, run_name
from pixel_pipeline.versions import library_versions

# The newest may be the one that a crash of the server damages.
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        uri: `s3://` URI of the final checkpoint.
        model_sha256: Of `model.safetensors`, in hex.
        git_revision: Of the process that trained it.
        parameters: (total, active for one token).
        reused: The run was complete already; nothing was trained.
        resumed_from: Step that this process went on from; None where it began the run or did nothing.
        finished: The run is at its end; False where the window ended before it.
    """

    checkpoint: CheckpointRef
    uri: str
    model_sha256: str
    dataset_version: str
    git_revision: str
    parameters: tuple[int, int]
    history: History
    reused: bool
    resumed_from: int | None
    finished: bool

    @property
    def validation_ratio(self) -> float:
        """Validation loss at the end over that at the start."""
        return self.history.validations[-1].loss / self.history.validations[0].loss


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
    """Bring a run to its last step, or as far as the window reaches: from nothing, from its newest checkpoint, or not at all.

    Args:
        manifest_key: Of the token shards, in the data bucket.
        run: Name of the run; derived from dataset, configuration and recipe if not given.
        report: Receives readable progress lines.
        git_revision: Recorded in the checkpoints.
        cache: Folder for local copies of shards; `<home>/cache` if not given.
        home: Folder for logs and the base model's local copy; PIXEL_HOME if not given.
        deadline: Of `time.monotonic`: when the last checkpoint has to be in the lake.

    Raises:
        DeviceError: the device that the configuration asks for is not there.
        TrainingInterruptedError: SIGINT or SIGTERM came; a checkpoint of the steps done is durable.
        RunConflictError: `run` names a run of other inputs.
        InitialWeightsError: `config.init_from` names weights that do not fit the run.
        BaseModelError, TrainingDataError, TrainingDivergedError, TrainingMemoryError, CheckpointCorruptError: see their classes.
    """
    device = check_device(config.device)
    manifest = ShardManifest.load(lake.data, manifest_key)
    home = home or get_settings().home
    base_digest = digest_of_base(lake, config.base) if config.base else None
    initial = InitialWeights.find(lake, config.init_from) if config.init_from else None
    init_from = initial.identity() if initial else None
    identity = run_identity(config, manifest, base_digest=base_digest, init_from=init_from)
    run = run or run_name(config, manifest, base_digest=base_digest, init_from=init_from)
    newest = max(list_checkpoints(lake.checkpoints, run), default=None)
    if newest is not None and CheckpointManifest.load(lake, newest).final:
        _check_identity(_state(lake, newest), identity=identity, run=run)
        return _reused(lake, newest, report=report)
    spool = home / "spool" / run
    with CheckpointUploads(lake, run=run, spool=spool, keep=KEPT_CHECKPOINTS, report=report) as uploads:
        # A former process may have left a newer checkpoint on this disk.
        step = uploads.recover()
        newest = None if step is None else CheckpointRef(run=run, step=step)
        if newest is None:
            if initial is not None:
                initial.check(lake, config, manifest, base_digest=base_digest)
            start = RunState(
                step=0,
                identity=identity,
                manifest_key=manifest_key,
                git_revision=git_revision,
                parameters=(0, 0),
                history=History(),
            )
        else:
            start = _state(lake, newest)
            _check_identity(start, identity=identity, run=run)
            start = replace(start, manifest_key=manifest_key, git_revision=git_revision)
            if CheckpointManifest.load(lake, newest).final:
                return _reused(lake, newest, report=report)
        start = replace(start, libraries=library_versions(*LIBRARIES))
        begins = f"starting from the weights of {initial.ref.prefix}" if initial else "starting"
        report(f"run {run}: {f'going on from step {start.step}' if start.step else begins} on {device}")
        import torch

        from pixel_pipeline.training.loop.trainer import Fit
        from pixel_pipeline.training.planning.measure import with_micro_batch

        base = open_base(lake, config.base, home=home) if config.base else None
        config = with_micro_batch(
            config, base=base, row_tokens=manifest.sequence_length, device=torch.device(device)
        )
        execution = {
            "device": device_name(device),
            "rows_per_micro_batch": config.rows_per_micro_batch or config.rows_per_step,
            "checkpoint_activations": config.checkpoint_activations,
            "compile": config.compile,
        }
        final = Fit(
            config=config,
            lake=lake,
            manifest=manifest,
            run=run,
            start=replace(start, execution=execution),
            uploads=uploads,
            base=base,
            initial=initial.ref if initial else None,
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


def _state(lake: Lake, ref: CheckpointRef) -> RunState:
    state = read_state(lake, ref)
    if state is None:
        # Adapters that somebody put there.
        raise run_conflict(ref.run)
    return state


def _check_identity(state: RunState, *, identity: dict[str, object], run: str) -> None:
    if state.identity != identity:
        raise run_conflict(run)


def _result(lake: Lake, ref: CheckpointRef, *, reused: bool, resumed_from: int | None) -> TrainingResult:
    state, manifest = _state(lake, ref), CheckpointManifest.load(lake, ref)
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


if __name__ == "__main__":
    from pixel_pipeline.training.planning.session import main

    sys.exit(main())
