"""Builds evaluation reports from a few figures."""

from collections.abc import Sequence

from pixel_pipeline.training.evaluation.report import EvaluationReport, FamilyResult, SplitResult
from pixel_pipeline.training.evaluation.safety.smoke_test import SmokeTest


def family(
    name: str,
    *,
    category: str | None = None,
    tokens: int = 10,
    loss: float = 1.0,
    base: float | None = None,
    counts: Sequence[Sequence[int]] = (),
) -> FamilyResult:
    return FamilyResult(
        name=name,
        category=category or name,
        rows=2,
        target_tokens=tokens,
        loss=loss,
        base=base,
        expert_counts=tuple(map(tuple, counts)),
    )


def report_of(*families: FamilyResult, layers: Sequence[int] | None = None) -> EvaluationReport:
    counts = families[0].expert_counts
    numbers = tuple(layers or range(len(counts)))
    return EvaluationReport(
        checkpoint="s3://b/r/step-000001",
        model_sha256="0" * 64,
        dataset_version="v",
        manifest_key="tokens/t/v/manifest.json",
        row_limit=512,
        base=None,
        dense=None,
        splits=(SplitResult(split="test", rows_there=2 * len(families), families=families),),
        experts=len(counts[0]) if counts else 1,
        layers=numbers,
        router_entropy=tuple(1.0 for _ in numbers),
        category_information=tuple(0.01 * (n + 1) for n in numbers),
        family_information=tuple(0.02 * (n + 1) for n in numbers),
        stages={},
        safety=SmokeTest(probes=()),
        base_safety=None,
    )
