"""Evaluation figures against a plain computation, and what is stored."""

from math import exp
from pathlib import Path

import pytest
import torch

from pixel_pipeline.lake.store import Lake
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints import download
from pixel_pipeline.training.config import TrainingConfig
from pixel_pipeline.training.data import ShardDataset, collate
from pixel_pipeline.training.errors import TrainingDataError
from pixel_pipeline.training.evaluate import evaluate
from pixel_pipeline.training.evaluation_report import EvaluationReport, FamilyResult
from pixel_pipeline.training.history import History, Validation
from pixel_pipeline.training.model.from_scratch import load_model
from pixel_pipeline.training.plots import expert_load_map, loss_curve, perplexity_bars
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.training.shards import FAMILIES, write_shards


def test_figures_equal_a_plain_computation_and_are_stored(
    lake: Lake, manifest_key: str, config: TrainingConfig, cache: Path, tmp_path: Path
) -> None:
    trained = train(
        config.model_copy(update={"steps": 4}),
        lake,
        manifest_key,
        report=lambda line: None,
        git_revision="abc123",
        cache=cache,
    )
    lines: list[str] = []
    result = evaluate(lake, trained.uri, manifest_key, lines.append, cache=cache)
    assert [item.family for item in result.families] == [*FAMILIES]
    assert result.model_sha256 == trained.model_sha256
    for shares in [*result.expert_load, *(row for item in result.families for row in item.routing)]:
        assert sum(shares) == pytest.approx(1.0)

    folder = tmp_path / "model"
    folder.mkdir()
    download(lake, trained.checkpoint, folder=folder)
    model = load_model(folder, device=torch.device("cpu")).train(False)
    manifest = ShardManifest.load(lake.data, manifest_key)
    dataset = ShardDataset(manifest, split="test", bucket=lake.data, cache=cache)
    total, count = 0.0, 0
    for index, family in enumerate(dataset.families):
        if family == "sleep":
            batch = collate([dataset[index]])
            with torch.no_grad():
                logits = model(
                    batch.tokens,
                    attention_mask=batch.attention,
                    position_ids=batch.positions,
                    use_cache=False,
                ).logits
            losses = -logits[0].log_softmax(-1)[batch.target_index, batch.targets]
            total, count = total + float(losses.sum()), count + len(losses)
    sleep = result.families[1]
    assert (sleep.target_tokens, sleep.loss) == (count, pytest.approx(total / count, rel=1e-4))
    assert sleep.perplexity == pytest.approx(exp(sleep.loss))

    prefix = f"{trained.checkpoint.run}/evaluation/step-000004"
    stored = lake.checkpoints.get_json(f"{prefix}/evaluation.json")
    assert stored["perplexity"] == result.perplexity
    for name in ("perplexity.png", "expert-load.png"):
        assert lake.checkpoints.get(f"{prefix}/{name}").startswith(b"\x89PNG")

    other = write_shards(lake, vocab_size=300)
    with pytest.raises(TrainingDataError, match="another tokenizer"):
        evaluate(lake, trained.uri, other, lines.append, cache=cache)


def report_with(load: list[list[float]]) -> EvaluationReport:
    family = FamilyResult(family="calm", rows=2, target_tokens=10, loss=1.0, routing=load)
    return EvaluationReport(
        checkpoint="s3://b/r/step-000001",
        model_sha256="0" * 64,
        dataset_version="v",
        split="test",
        loss=1.0,
        families=[family],
        expert_load=load,
    )


def test_dead_experts_and_uneven_load_are_found() -> None:
    result = report_with([[0.25, 0.25, 0.25, 0.25], [0.6, 0.392, 0.008, 0.0]])
    assert result.dead_experts == [(1, 2), (1, 3)]
    assert result.load_ratio == pytest.approx(2.4)
    assert result.family_table().splitlines()[2] == "| calm | 2 | 10 | 1.000 | 2.7 |"
    assert result.routing_table().splitlines()[2] == "| calm | 42.5% | 32.1% | 12.9% | 12.5% |"


def test_pictures_are_small_opaque_and_repeatable() -> None:
    history = History(losses=[8 / (1 + step / 50) for step in range(300)])
    history.validations = [Validation(step=step, loss=8 - step / 60, families={}) for step in (0, 150, 300)]
    pictures = (
        lambda: loss_curve(history),
        lambda: perplexity_bars({f"family_{number}": 3.0 + number for number in range(12)}),
        lambda: expert_load_map([[0.1, 0.2, 0.3, 0.4]] * 4),
    )
    for draw in pictures:
        png = draw()
        assert png == draw()
        assert len(png) < 60_000
        assert int.from_bytes(png[16:20], "big") == 900
