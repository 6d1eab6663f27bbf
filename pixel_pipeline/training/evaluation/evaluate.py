"""Evaluates a checkpoint: held-out loss, routing and the safety smoke test. Torch-free until it has to compute.

`python -m pixel_pipeline.training.evaluation.evaluate` is the process that Dagster starts through Pipes; `pixel evaluate` does the same in a terminal.
"""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
import sys

import orjson

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.memo import fingerprint
from pixel_pipeline.registry.base_models import BaseManifest, is_path
from pixel_pipeline.settings import get_settings
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints.queries import find_dense_baseline, read_state
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.checkpoints.store import CheckpointManifest, CheckpointRef
from pixel_pipeline.training.config.curriculum import Curriculum
from pixel_pipeline.training.evaluation.model_card import ModelCard
from pixel_pipeline.training.evaluation.report import MOST_ROWS, TEST, EvaluationReport
from pixel_pipeline.training.evaluation.safety.smoke_test import SmokeTest
from pixel_pipeline.training.evaluation.samples import Samples
from pixel_pipeline.training.evaluation.store import (
    evaluation_prefix,
    store_evaluation,
    stored_evaluation,
)
from pixel_pipeline.training.runtime.hosting import Host, run_hosted

RECIPE_VERSION = "evaluation-1"
"""Increment it when the same checkpoint gets other figures, plots or samples; it is then evaluated again."""


def evaluate(
    lake: Lake,
    checkpoint: CheckpointRef | str,
    manifest_key: str,
    report: Callable[[str], None],
    *,
    cache: Path | None = None,
    home: Path | None = None,
    most_rows: int = MOST_ROWS,
) -> EvaluationReport:
    """Evaluate a checkpoint, and store figures, plots, samples and model card under `<run>/evaluation/step-000200/`.

    Args:
        checkpoint: A reference, or a name for `CheckpointRef.resolve`.
        manifest_key: Manifest of token shards made with the checkpoint's tokenizer.
        report: Receives readable progress lines.
        cache: Folder for local copies of shards; default: `<home>/cache`.
        home: Folder for the local copy of the base model; default: PIXEL_HOME.
        most_rows: Maximum number of rows per split; fewer for large models on a CPU.

    Raises:
        CheckpointNotFoundError, CheckpointCorruptError, BaseModelError, AdapterError: see their classes.
        TrainingDataError: a split has no rows, or the shards have another tokenizer.
    """
    ref = CheckpointRef.resolve(lake, checkpoint) if isinstance(checkpoint, str) else checkpoint
    shards = ShardManifest.load(lake.data, manifest_key)
    state = read_state(lake, ref)
    dense = find_dense_baseline(lake, state)
    weights = [CheckpointManifest.load(lake, found).weights.sha256 for found in (ref, dense) if found]
    recipe = fingerprint(RECIPE_VERSION, manifest_key, most_rows, weights)
    known = stored_evaluation(lake, ref, recipe=recipe)
    if known is not None:
        report(f"{ref.uri(lake)} is evaluated already: {TEST} loss {known.loss:.3f} — unchanged")
        return known
    report(f"evaluating {ref.uri(lake)}")
    import torch

    from pixel_pipeline.training.evaluation.measuring import measure
    from pixel_pipeline.training.evaluation.overview import pictures
    from pixel_pipeline.training.runtime.arithmetic import use_reproducible_arithmetic
    from pixel_pipeline.training.runtime.environment import silence_libraries

    silence_libraries()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    use_reproducible_arithmetic(device)
    home = home or get_settings().home
    measured = measure(
        lake,
        ref,
        shards,
        dense=dense,
        home=home,
        cache=cache or home / "cache",
        device=device,
        most_rows=most_rows,
        report=report,
    )
    result = EvaluationReport(
        checkpoint=ref.uri(lake),
        model_sha256=weights[0],
        dataset_version=shards.dataset_version,
        manifest_key=manifest_key,
        row_limit=measured.row_limit,
        base=measured.base,
        dense=dense.uri(lake) if dense else None,
        splits=measured.splits,
        experts=measured.experts,
        layers=measured.layers,
        router_entropy=measured.router_entropy,
        category_information=measured.category_information,
        family_information=measured.family_information,
        stages=stages_of(state, shards),
        safety=SmokeTest.of(measured.answers),
        base_safety=SmokeTest.of(measured.base_answers) if measured.base_answers else None,
    )
    samples = Samples(checkpoint=ref.uri(lake), answers=measured.answers, base_answers=measured.base_answers)
    in_lake = result.base is not None and not is_path(result.base)
    base = BaseManifest.load(lake, result.base) if in_lake and result.base else None
    card = ModelCard(uri=ref.uri(lake), report=result, shards=shards, state=state, base=base)
    files = {
        **pictures(result),
        "samples.json": orjson.dumps(samples.to_json(), option=orjson.OPT_INDENT_2),
        "samples.md": samples.markdown().encode(),
        "README.md": card.markdown().encode(),
    }
    store_evaluation(lake, ref, result, recipe=recipe, files=files)
    report(_verdict(result))
    return result


def stages_of(state: RunState | None, shards: ShardManifest) -> dict[str, list[str]]:
    """Families of each stage of the run's curriculum; empty for a single stage."""
    content = state.identity["config"].get("curriculum") if state else None
    stages = Curriculum.model_validate(content).stages if content else ()
    if len(stages) < 2:
        return {}
    categories = {name: family.category for name, family in shards.families.items()}
    matched = {stage.name: stage.matched(shards.families, categories=categories) for stage in stages}
    return {name: sorted({*chain(*families.values())}) for name, families in matched.items()}


def _verdict(result: EvaluationReport) -> str:
    total = result.test.total
    rows = f"{total.rows}/{result.test.rows_there} rows"
    parts = [f"{TEST} loss {result.loss:.3f}", f"perplexity {result.perplexity:.1f}"]
    parts += [f"base loss {total.base:.3f}"] if total.base is not None else []
    parts += [f"dense loss {total.dense:.3f}"] if total.dense is not None else []
    parts += [f"{len(result.test.families)} families", rows]
    if result.layers:
        parts.append(f"largest expert load {result.load_ratio:.2f} of even")
        parts.append(f"dead experts {len(result.dead_experts)}")
    return "  ".join([*parts, f"safety smoke test: {result.safety.summary()}"])


def main() -> int:
    """The evaluation process that Dagster starts; returns its exit status."""
    return run_hosted(_run_task)


def _run_task(host: Host) -> None:
    task = host.task(verb="pixel evaluate")
    lake = Lake.open(get_settings())
    ref = CheckpointRef.resolve(lake, task["checkpoint"])
    before = stored_evaluation(lake, ref)
    result = evaluate(lake, ref, task["manifest_key"], host.report)
    from pixel_pipeline.training.evaluation.overview import evaluation_metadata

    host.materialize(
        metadata=evaluation_metadata(
            result, uri=lake.checkpoints.uri(evaluation_prefix(ref)), reused=result == before
        ),
        data_version=f"{result.model_sha256[:16]}-{result.dataset_version}",
    )


if __name__ == "__main__":
    sys.exit(main())
