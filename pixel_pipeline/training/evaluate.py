"""Held-out perplexity by family and expert load of a checkpoint. Torch-free until the checkpoint is found.

`python -m pixel_pipeline.training.evaluate` is the process that Dagster starts through Pipes; by hand it needs no Dagster.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any, cast

from pixel_pipeline.code_version import code_version
from pixel_pipeline.lake.errors import ObjectNotFoundError
from pixel_pipeline.lake.memo import fingerprint
from pixel_pipeline.lake.store import Lake
from pixel_pipeline.settings import get_settings
from pixel_pipeline.tokens.shards import ShardManifest, current_manifest_key
from pixel_pipeline.training.checkpoints import CheckpointManifest, CheckpointRef
from pixel_pipeline.training.errors import TrainingDataError
from pixel_pipeline.training.evaluation_report import MOST_ROWS, EvaluationReport, FamilyResult
from pixel_pipeline.training.hosting import Host, run_hosted

if TYPE_CHECKING:
    from torch import Tensor

    from pixel_pipeline.training.scoring import Score

SPLIT = "test"


def evaluate(
    lake: Lake,
    checkpoint: CheckpointRef | str,
    manifest_key: str,
    report: Callable[[str], None],
    *,
    cache: Path | None = None,
    most_rows: int = MOST_ROWS,
) -> EvaluationReport:
    """Score a checkpoint on the test split; figures and pictures go to `<run>/evaluation/step-000200/`.

    Args:
        checkpoint: A reference, or what `CheckpointRef.resolve` understands.
        manifest_key: Of token shards made with the checkpoint's tokenizer.
        report: Receives readable progress lines.
        cache: Folder for local copies of shards; `<PIXEL_HOME>/cache` if not given.
        most_rows: Rows scored at most.

    Raises:
        CheckpointNotFoundError, CheckpointCorruptError: see their classes.
        TrainingDataError: no test rows, or shards of another tokenizer.
    """
    ref = CheckpointRef.resolve(lake, checkpoint) if isinstance(checkpoint, str) else checkpoint
    manifest = ShardManifest.load(lake.data, manifest_key)
    recipe = fingerprint(
        code_version("pixel_pipeline.training"),
        manifest_key,
        most_rows,
        CheckpointManifest.load(lake, ref).weights.sha256,
    )
    # Remembered in the checkpoint bucket, beside what it tells of: the lake may be another one next time.
    known = _stored(lake, ref, recipe=recipe)
    if known is not None:
        report(f"{ref.uri(lake)} is evaluated already: {SPLIT} loss {known.loss:.3f} — unchanged")
        return known
    report(f"evaluating {ref.uri(lake)} on the {SPLIT} split")
    import torch

    from pixel_pipeline.training.arithmetic import use_reproducible_arithmetic
    from pixel_pipeline.training.data import ShardDataset, rows_by_family
    from pixel_pipeline.training.environment import silence_libraries
    from pixel_pipeline.training.models import open_checkpoint
    from pixel_pipeline.training.scoring import score_families

    silence_libraries()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    use_reproducible_arithmetic(device)
    home = get_settings().home
    dataset = ShardDataset(manifest, split=SPLIT, bucket=lake.data, cache=cache or home / "cache")
    rows = rows_by_family(dataset, limit=most_rows)
    with open_checkpoint(lake, ref, home=home, device=device) as opened:
        if opened.tokenizer_sha256 != manifest.tokenizer.sha256:
            raise TrainingDataError(
                f"{ref.uri(lake)} was trained with another tokenizer than that of {lake.data.uri(manifest_key)}.",
                hint="Evaluate it on its own shards, or train a checkpoint on these.",
            )
        score = score_families(opened.model, dataset, rows=rows)
    assert score is not None
    result = _report_of(
        score,
        checkpoint=ref.uri(lake),
        model_sha256=opened.weights_sha256,
        dataset_version=manifest.dataset_version,
    )
    _store(lake, ref, result=result, recipe=recipe)
    report(
        f"{SPLIT} loss {result.loss:.3f}  perplexity {result.perplexity:.1f}  {len(result.families)} families"
        f"  {sum(item.rows for item in result.families)}/{len(dataset)} rows"
        f"  largest expert load {result.load_ratio:.2f} of even  dead experts {len(result.dead_experts)}"
    )
    return result


def evaluation_prefix(ref: CheckpointRef) -> str:
    """Key prefix of a checkpoint's evaluation, without a slash at the end."""
    return f"{ref.run}/evaluation/step-{ref.step:06d}"


def pictures(result: EvaluationReport) -> dict[str, bytes]:
    """PNG files by name."""
    from pixel_pipeline.training.plots import expert_load_map, perplexity_bars

    return {
        "perplexity.png": perplexity_bars({item.family: item.perplexity for item in result.families}),
        "expert-load.png": expert_load_map(result.expert_load),
    }


def _stored(lake: Lake, ref: CheckpointRef, *, recipe: str) -> EvaluationReport | None:
    try:
        content = lake.checkpoints.get_json(f"{evaluation_prefix(ref)}/evaluation.json")
    except ObjectNotFoundError:
        return None
    return EvaluationReport.from_json(content) if content.get("recipe") == recipe else None


def _store(lake: Lake, ref: CheckpointRef, *, result: EvaluationReport, recipe: str) -> None:
    prefix = evaluation_prefix(ref)
    for name, png in pictures(result).items():
        lake.checkpoints.put(f"{prefix}/{name}", png)
    lake.checkpoints.put_json(f"{prefix}/evaluation.json", {**result.to_json(), "recipe": recipe})


def _report_of(
    score: "Score", *, checkpoint: str, model_sha256: str, dataset_version: str
) -> EvaluationReport:
    families = [
        FamilyResult(
            family=name,
            rows=family.rows,
            target_tokens=family.targets,
            loss=family.loss,
            routing=_shares(family.expert_counts),
        )
        for name, family in sorted(score.families.items())
    ]
    return EvaluationReport(
        checkpoint=checkpoint,
        model_sha256=model_sha256,
        dataset_version=dataset_version,
        split=SPLIT,
        loss=score.loss,
        families=families,
        expert_load=_shares(score.expert_counts),
    )


def _shares(counts: "Tensor") -> list[list[float]]:
    shares: list[list[float]] = (counts / counts.sum(1, keepdim=True)).tolist()
    return shares


def main(arguments: list[str] | None = None) -> int:
    """The evaluation process; returns its exit status."""
    return run_hosted(lambda host: _body(host, arguments))


def _body(host: Host, arguments: list[str] | None) -> None:
    lake = Lake.open(get_settings())
    if host.extras is not None:
        checkpoint, manifest_key = (
            cast(str, host.extras["checkpoint"]),
            cast(str, host.extras["manifest_key"]),
        )
    else:
        parser = argparse.ArgumentParser(
            prog="python -m pixel_pipeline.training.evaluate", description=__doc__
        )
        parser.add_argument("checkpoint", nargs="?", default="latest", help="latest, a run, or an s3:// URI")
        parser.add_argument("--manifest", help="key of a shard manifest (default: the current one)")
        options = parser.parse_args(arguments)
        checkpoint = options.checkpoint
        manifest_key = options.manifest or current_manifest_key(lake.data)
    ref = CheckpointRef.resolve(lake, checkpoint)
    result = evaluate(lake, ref, manifest_key, host.report)
    host.materialize(
        metadata=_metadata(result, uri=lake.checkpoints.uri(evaluation_prefix(ref))),
        data_version=_version(result),
    )


def _version(result: EvaluationReport) -> str:
    return f"{result.model_sha256[:16]}-{result.dataset_version}"


def _metadata(result: EvaluationReport, *, uri: str) -> dict[str, Any]:
    from pixel_pipeline.training.plots import markdown_image

    images = pictures(result)
    return {
        "checkpoint": {"raw_value": result.checkpoint, "type": "path"},
        "evaluation": {"raw_value": uri, "type": "path"},
        "model_sha256": result.model_sha256,
        "dataset_version": result.dataset_version,
        "loss": result.loss,
        "perplexity": result.perplexity,
        "dead_experts": len(result.dead_experts),
        "largest_expert_load_over_even": result.load_ratio,
        "families": {"raw_value": result.family_table(), "type": "md"},
        "routing_by_family": {"raw_value": result.routing_table(), "type": "md"},
        "perplexity_by_family": {
            "raw_value": markdown_image(images["perplexity.png"], title="Perplexity by family"),
            "type": "md",
        },
        "expert_load": {
            "raw_value": markdown_image(images["expert-load.png"], title="Expert load"),
            "type": "md",
        },
    }


if __name__ == "__main__":
    sys.exit(main())
