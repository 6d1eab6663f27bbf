"""Stores evaluations under `<run>/evaluation/step-000200/` in the checkpoint bucket. Torch-free."""

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.lake.s3.errors import ObjectNotFoundError
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.evaluation.report import FORMAT, EvaluationReport

REPORT = "evaluation.json"


def evaluation_prefix(ref: CheckpointRef) -> str:
    """Key prefix of a checkpoint's evaluation, without a trailing slash."""
    return f"{ref.run}/evaluation/step-{ref.step:06d}"


def stored_evaluation(
    lake: Lake, ref: CheckpointRef, *, recipe: str | None = None
) -> EvaluationReport | None:
    """The last evaluation of a checkpoint; None where there is none, or none made of the same checkpoint, data and code (`recipe`)."""
    try:
        content = lake.checkpoints.get_json(f"{evaluation_prefix(ref)}/{REPORT}")
    except ObjectNotFoundError:
        return None
    if content.get("format") != FORMAT or (recipe is not None and content.get("recipe") != recipe):
        return None
    return EvaluationReport.from_json(content)


def store_evaluation(
    lake: Lake, ref: CheckpointRef, report: EvaluationReport, *, recipe: str, files: dict[str, bytes]
) -> None:
    """Store the files of an evaluation by name, and the report last, which makes it complete."""
    prefix = evaluation_prefix(ref)
    for name, data in files.items():
        lake.checkpoints.put(f"{prefix}/{name}", data)
    lake.checkpoints.put_json(f"{prefix}/{REPORT}", {**report.to_json(), "recipe": recipe})
