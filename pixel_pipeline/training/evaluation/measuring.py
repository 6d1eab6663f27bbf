"""Scores a checkpoint, its base and a dense baseline, and generates answers to the probes. Imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints.store import CheckpointRef
from pixel_pipeline.training.data.dataset import ShardDataset, rows_by_family
from pixel_pipeline.training.errors import TrainingDataError
from pixel_pipeline.training.evaluation.report import TEST, VALIDATION, FamilyResult, SplitResult
from pixel_pipeline.training.evaluation.safety.probes import load_probes
from pixel_pipeline.training.inference.answers import greedy_answers
from pixel_pipeline.training.loop.scoring import Score, score_families
from pixel_pipeline.training.model.adapted_model import AdaptedModel
from pixel_pipeline.training.model.adapters_off import adapters_off
from pixel_pipeline.training.model.factory import open_checkpoint
from pixel_pipeline.training.model.router_health import mutual_information
from pixel_pipeline.training.model.trained_model import TrainedModel

# Limit for one pass over a split on a CPU: 28 rows of 512 tokens with 135 M parameters, under a minute of CPU time. Larger models
# score fewer rows, to bound the time.
CPU_OPERATIONS = 4e12
SPLITS = (VALIDATION, TEST)


@dataclass(frozen=True)
class Measurement:
    """The measured part of an evaluation; losses in nats.

    Attributes:
        row_limit: Maximum number of scored rows per split.
        answers: Answers to the probes by id; base_answers are those of the base model, if there is one.
    """

    base: str | None
    row_limit: int
    splits: tuple[SplitResult, ...]
    experts: int
    layers: tuple[int, ...]
    router_entropy: tuple[float, ...]
    category_information: tuple[float, ...]
    family_information: tuple[float, ...]
    answers: dict[str, str]
    base_answers: dict[str, str] | None


def measure(
    lake: Lake,
    ref: CheckpointRef,
    manifest: ShardManifest,
    *,
    dense: CheckpointRef | None,
    home: Path,
    cache: Path,
    device: torch.device,
    most_rows: int,
    report: Callable[[str], None],
) -> Measurement:
    """Measure the checkpoint, then close it and score the dense baseline.

    Args:
        dense: A plain LoRA checkpoint to score on the same rows.
        most_rows: Maximum number of rows per split; fewer for large models on a CPU.

    Raises:
        TrainingDataError: a split has no rows, or the shards are of another tokenizer.
    """
    data = {split: ShardDataset(manifest, split=split, bucket=lake.data, cache=cache) for split in SPLITS}
    with open_checkpoint(lake, ref, home=home, device=device) as opened:
        model = opened.model
        if opened.tokenizer_sha256 != manifest.tokenizer.sha256:
            raise TrainingDataError(
                f"{ref.uri(lake)} was trained with another tokenizer than that of dataset version {manifest.dataset_version}.",
                hint="Evaluate it on its own shards, or train a checkpoint on these.",
            )
        limit = row_limit(model, most_rows=most_rows, length=manifest.sequence_length)
        rows = {split: rows_by_family(dataset, limit=limit) for split, dataset in data.items()}
        scores = {split: _score(model, data[split], rows[split]) for split in SPLITS}
        tokenizer = AutoTokenizer.from_pretrained(opened.folder, local_files_only=True)
        probes = load_probes()

        def answers() -> dict[str, str]:
            texts = greedy_answers(model.model, tokenizer, [probe.prompt for probe in probes])
            return {probe.id: text for probe, text in zip(probes, texts, strict=True)}

        report(f"answering {len(probes)} probes")
        own_answers, base_answers = answers(), None
        base_losses: dict[str, dict[str, float]] = {}
        if isinstance(model, AdaptedModel):
            report("the same without adapters: what the base alone does")
            with adapters_off(model):
                base_losses = {split: _losses(_score(model, data[split], rows[split])) for split in SPLITS}
                base_answers = answers()
    layers = _routed_layers(model, count=len(scores[TEST].expert_counts))
    dense_losses: dict[str, dict[str, float]] = {}
    if dense is not None:
        report(f"the same by plain LoRA: {dense.uri(lake)}")
        with open_checkpoint(lake, dense, home=home, device=device) as opened_dense:
            dense_losses = {
                split: _losses(_score(opened_dense.model, data[split], rows[split])) for split in SPLITS
            }
    counts = {name: family.expert_counts for name, family in scores[TEST].families.items()}
    categories = data[TEST].categories
    return Measurement(
        base=opened.base.name if opened.base else None,
        row_limit=limit,
        splits=tuple(
            SplitResult(
                split=split,
                rows_there=len(data[split]),
                families=_families(
                    scores[split],
                    categories=categories,
                    base=base_losses.get(split, {}),
                    dense=dense_losses.get(split, {}),
                ),
            )
            for split in SPLITS
        ),
        experts=model.experts,
        layers=layers,
        router_entropy=tuple(scores[TEST].router_entropy.tolist()),
        category_information=_information(_by_category(counts, categories)),
        family_information=_information(counts),
        answers=own_answers,
        base_answers=base_answers,
    )


def row_limit(model: TrainedModel, *, most_rows: int, length: int) -> int:
    """Maximum number of rows per split."""
    if model.device.type != "cpu":
        return most_rows
    operations = 2 * model.parameter_counts()[1] * length
    return max(min(most_rows, int(CPU_OPERATIONS / operations)), 1)


def _score(model: TrainedModel, dataset: ShardDataset, rows: dict[str, list[int]]) -> Score:
    score = score_families(model, dataset, rows=rows)
    assert score is not None, "nothing stops it"
    return score


def _losses(score: Score) -> dict[str, float]:
    return {name: family.loss for name, family in score.families.items()}


def _families(
    score: Score, *, categories: Mapping[str, str], base: Mapping[str, float], dense: Mapping[str, float]
) -> tuple[FamilyResult, ...]:
    return tuple(
        FamilyResult(
            name=name,
            category=categories.get(name, name),
            rows=family.rows,
            target_tokens=family.targets,
            loss=family.loss,
            base=base.get(name),
            dense=dense.get(name),
            expert_counts=tuple(map(tuple, family.expert_counts.tolist())),
        )
        for name, family in sorted(score.families.items())
    )


def _routed_layers(model: TrainedModel, *, count: int) -> tuple[int, ...]:
    """Numbers of the `count` layers with a router."""
    if isinstance(model, AdaptedModel):
        return model.adapters.layers_of(model.base.layers) if model.adapters.routed else ()
    return tuple(range(count))


def _by_category(counts: Mapping[str, Tensor], categories: Mapping[str, str]) -> dict[str, Tensor]:
    summed: dict[str, Tensor] = {}
    for family, counts_LE in counts.items():
        category = categories.get(family, family)
        summed[category] = summed[category] + counts_LE if category in summed else counts_LE
    return summed


def _information(counts: Mapping[str, Tensor]) -> tuple[float, ...]:
    """Mutual information [layers], in nats, from counts [layers, experts] of each domain."""
    counts_LDE = torch.stack([*counts.values()], dim=1)
    return tuple(mutual_information(counts_DE) for counts_DE in counts_LDE)
