"""Looks up runs by their checkpoints. Torch-free."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key
from pixel_pipeline.training.checkpoints.run_state import ADAPTER_FILE, STATE_FILE, RunState
from pixel_pipeline.training.checkpoints.store import (
    POINTER,
    CheckpointManifest,
    CheckpointRef,
    download,
    list_checkpoints,
)


def read_state(lake: Lake, ref: CheckpointRef) -> RunState | None:
    """The verified state of a checkpoint; None if it has none, like adapters that were published by hand."""
    if STATE_FILE not in CheckpointManifest.load(lake, ref).files:
        return None
    with TemporaryDirectory(prefix="pixel-state-") as name:
        download(lake, ref, folder=Path(name), names=[STATE_FILE])
        return RunState.read(Path(name))


def evaluation_shards(lake: Lake, ref: CheckpointRef) -> str:
    """Key of the shard manifest to evaluate a checkpoint on: the current one, or that of its training if the tokenizers differ.

    Raises:
        TokenShardsNotFoundError: There are no current shards.
    """
    key = current_manifest_key(lake.data)
    tokenizer = CheckpointManifest.load(lake, ref).files.get("tokenizer.json")
    if tokenizer is None or tokenizer.sha256 == ShardManifest.load(lake.data, key).tokenizer.sha256:
        return key
    state = read_state(lake, ref)
    return key if state is None else state.manifest_key


def find_dense_baseline(lake: Lake, state: RunState | None) -> CheckpointRef | None:
    """The finished plain LoRA run to compare a mixture with: the same data, base model and configuration, by any recipe.

    None if there is no such run, or if `state` belongs to a dense baseline itself.
    """
    if state is None or state.identity.get("base") is None or state.identity["config"].get("dense_baseline"):
        return None
    wanted = _comparable(state.identity)
    for run in runs_by_age(lake):
        for ref in list_checkpoints(lake.checkpoints, run)[-1:]:
            manifest = CheckpointManifest.load(lake, ref)
            found = read_state(lake, ref) if manifest.final and ADAPTER_FILE in manifest.files else None
            dense = found is not None and found.identity["config"].get("dense_baseline")
            if found and dense and _comparable(found.identity) == wanted:
                return ref
    return None


def runs_by_age(lake: Lake) -> list[str]:
    """Runs, the one whose pointer moved last first."""
    moved = {
        item.key.removesuffix(f"/{POINTER}"): item.last_modified
        for item in lake.checkpoints.list("")
        if item.key.endswith(f"/{POINTER}")
    }
    return sorted(moved, key=lambda run: (moved[run], run), reverse=True)


def _comparable(identity: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in identity.items() if name not in ("recipe", "code_version")}
    return {**kept, "config": {k: v for k, v in identity["config"].items() if k != "dense_baseline"}}
