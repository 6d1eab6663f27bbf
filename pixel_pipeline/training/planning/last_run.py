"""How fast a run of the same kind was, as its checkpoint tells. Torch-free."""

from collections.abc import Mapping
from typing import Any

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints.queries import read_state, runs_by_age
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef, list_checkpoints
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.evaluation.report import MOST_ROWS, TEST, VALIDATION
from pixel_pipeline.training.planning.memory import MicroBatch
from pixel_pipeline.training.planning.plan import Overheads, StepTime
from pixel_pipeline.training.planning.speed import Speed

# What decides how fast a token is, besides sizes of the model and the device.
LIKE_FIELDS = ("adapters", "dense_baseline", "shape", "precision", "device")
# A run has a mean alone; single steps, and other days, differ by about so much.
SPREAD = 0.15
START_UP_SECONDS = 120.0
WRITTEN_BYTES_PER_SECOND = 500e6
UPLOAD_BYTES_PER_SECOND = 20e6
# Of three parts of a step's work the forward pass is one.
FORWARD_SHARE = 1 / 3


def last_speed(
    lake: Lake, config: TrainingConfig, manifest: ShardManifest, *, base_digest: str | None, device: str
) -> Speed | None:
    """Speed of the newest run with the same base model, adapters, row length and device; None where there is none.

    Args:
        device: As `device_name` calls it.
    """
    identity = config.identity()
    wanted = {name: identity.get(name) for name in LIKE_FIELDS} | {
        "base": base_digest,
        "sequence_length": manifest.sequence_length,
        "execution": device,
    }
    for run in runs_by_age(lake):
        ref = max(list_checkpoints(lake.checkpoints, run), default=None)
        state = read_state(lake, ref) if ref is not None else None
        if ref is None or state is None:
            continue
        if state.history.tokens_per_second and _kind(state) == wanted and _executed_so(state, config):
            return _speed(lake, ref, state, config, manifest)
    return None


def average_step_tokens(config: TrainingConfig, manifest: ShardManifest) -> float:
    """Real tokens in a step's rows."""
    train = manifest.splits["train"]
    return config.rows_per_step * train.tokens / max(train.rows, 1)


def evaluated_rows(manifest: ShardManifest, *, limit: int, adapters: bool) -> int:
    """Rows that an evaluation scores: of both held-out splits, and with adapters those of the base alone as well."""
    rows = sum(
        min(manifest.splits[split].rows, limit) for split in (VALIDATION, TEST) if split in manifest.splits
    )
    return rows * (2 if adapters else 1)


def _kind(state: RunState) -> Mapping[str, Any]:
    config = state.identity["config"]
    return {name: config.get(name) for name in LIKE_FIELDS} | {
        "base": state.identity["base"],
        "sequence_length": state.identity["sequence_length"],
        "execution": state.execution.get("device"),
    }


def _executed_so(state: RunState, config: TrainingConfig) -> bool:
    """It went through the model as this one will, where that is settled."""
    rows = config.rows_per_micro_batch
    return (rows is None or state.execution.get("rows_per_micro_batch") == rows) and (
        not config.checkpoint_activations or bool(state.execution.get("checkpoint_activations"))
    )


def _speed(
    lake: Lake, ref: CheckpointRef, state: RunState, config: TrainingConfig, manifest: ShardManifest
) -> Speed:
    rate = state.history.tokens_per_second
    seconds = average_step_tokens(config, manifest) / rate
    row = manifest.sequence_length / rate * FORWARD_SHARE
    stored = sum(file.bytes for file in CheckpointManifest.load(lake, ref).files.values())
    rows = int(state.execution.get("rows_per_micro_batch") or config.rows_per_step)
    return Speed(
        device=str(state.execution["device"]),
        step=StepTime(
            fastest=seconds * (1 - SPREAD),
            expected=seconds,
            slowest=seconds * (1 + SPREAD),
            source=f"run {ref.run} did {rate:,.0f} tokens/s",
        ),
        overheads=Overheads(
            start_up=START_UP_SECONDS,
            checkpoint=stored / WRITTEN_BYTES_PER_SECOND,
            checkpoint_every=config.checkpoint_every_seconds,
            validation=row * config.validation_rows,
            upload=stored / UPLOAD_BYTES_PER_SECOND,
            evaluation=START_UP_SECONDS
            + row * evaluated_rows(manifest, limit=MOST_ROWS, adapters=config.base is not None),
        ),
        micro_batch=MicroBatch(
            rows=config.rows_per_micro_batch or min(rows, config.rows_per_step),
            checkpoint_activations=config.checkpoint_activations
            or bool(state.execution.get("checkpoint_activations")),
        ),
        assumed=("start_up", "checkpoint", "validation", "upload", "evaluation"),
    )
