"""Promotion: what passes, what is refused and why, and that of two at once one wins."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pixel_pipeline.lake.lake import Lake
from pixel_pipeline.training.checkpoints.store import CheckpointRef, list_checkpoints, prune
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.errors import CheckpointNotFoundError, PromotionError
from pixel_pipeline.training.evaluation.safety.smoke_test import SmokeTest
from pixel_pipeline.training.promotion.export_gate import export_folder
from pixel_pipeline.training.promotion.gates import GATES, no_dead_expert, no_regression, safety_not_worse
from pixel_pipeline.training.promotion.promote import Outcome, promote
from pixel_pipeline.training.promotion.record import Promotion
from pixel_pipeline.training.train import train
from pixel_pipeline_tests.training.promotion.conftest import Changed, Train, without_work
from pixel_pipeline_tests.training.reports import family, report_of
from pixel_pipeline_tests.training.shards import write_shards

Promote = Callable[[CheckpointRef], Outcome]


@pytest.fixture
def promoted(lake: Lake, manifest_key: str, tmp_path: Path) -> Promote:
    return lambda ref: promote(lake, ref, manifest_key, lambda line: None, home=tmp_path, tolerance=0.005)


def test_only_a_checkpoint_that_is_no_worse_follows(
    lake: Lake, adapted: TrainingConfig, trained: Train, promoted: Promote, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointNotFoundError):
        CheckpointRef.resolve(lake, "promoted")
    middle, good, bad = (trained(adapted, steps=steps) for steps in (6, 12, 3))
    first = promoted(middle)
    assert first.promotion is not None, first.refusal
    assert [gate.name for gate in first.gates] == [*GATES]
    assert "nothing is promoted yet" in first.gates[0].description
    assert CheckpointRef.resolve(lake, "promoted") == middle
    assert (export_folder(middle, home=tmp_path) / "verification.json").exists()
    assert not export_folder(middle, home=tmp_path).with_name("step-000006-fp32").exists()

    second = promoted(good)
    assert second.promotion is not None, second.refusal
    assert second.promotion.number == 2
    assert second.gates[0].figures["loss"] < second.gates[0].figures["promoted_loss"]

    refused = promoted(bad)
    assert refused.promotion is None
    assert not refused.gates[0].passed
    assert "is not promoted. no_regression: Test loss" in refused.refusal
    assert CheckpointRef.resolve(lake, "promoted") == good
    assert Promotion.current(lake.checkpoints) == second.promotion
    assert lake.checkpoints.get("promoted.json") == lake.checkpoints.get("promoted/000002.json")
    assert [item.key for item in lake.checkpoints.list("promoted")] == [
        "promoted/000001.json",
        "promoted/000002.json",
    ]

    # A copy that a crash kept from being written is made up for; nothing else is done.
    lake.checkpoints.delete(["promoted.json"])
    again = promoted(good)
    assert again.reused
    assert again.gates == second.gates
    assert lake.checkpoints.exists("promoted.json")


def test_a_whole_model_is_promoted_as_it_is(
    lake: Lake, config: TrainingConfig, trained: Train, promoted: Promote
) -> None:
    outcome = promoted(trained(config))
    (gate,) = [gate for gate in outcome.gates if gate.name == "export_verified"]
    assert gate.passed
    assert float(gate.figures["max_logit_difference"]) < 1e-6
    assert outcome.promotion is not None


def test_of_two_at_once_one_is_told(
    lake: Lake, config: TrainingConfig, trained: Train, promoted: Promote
) -> None:
    one, other = promoted(trained(config)).promotion, trained(config, steps=6)
    assert one is not None
    late = replace(one, run=other.run, step=other.step, checkpoint=other.uri(lake))
    with pytest.raises(PromotionError, match="while the gates"):
        late.store(lake)
    assert Promotion.current(lake.checkpoints) == one


def test_the_promoted_checkpoint_is_kept_and_may_yet_be_gone(
    lake: Lake, config: TrainingConfig, trained: Train, promoted: Promote
) -> None:
    first, second = trained(config, steps=3), trained(config, steps=6)
    promoted(first)
    newer = CheckpointRef(run=first.run, step=first.step + 1)
    for item in [*lake.checkpoints.list(first.prefix)]:
        lake.checkpoints.put(item.key.replace(first.prefix, newer.prefix), lake.checkpoints.get(item.key))
    # The best is kept for another reason.
    lake.checkpoints.delete([f"{first.run}/best.json"])
    prune(lake, first.run, keep=1)
    assert list_checkpoints(lake.checkpoints, first.run) == [first, newer]
    lake.checkpoints.delete([item.key for item in lake.checkpoints.list(first.prefix)])
    assert "is gone" in promoted(second).gates[0].description


def test_another_tokenizer_is_not_compared(
    lake: Lake, config: TrainingConfig, trained: Train, promoted: Promote, manifest_key: str, tmp_path: Path
) -> None:
    promoted(trained(config))
    other = write_shards(lake, vocab_size=300)
    ref = train(
        config, lake, other, report=lambda line: None, git_revision="abc123", home=tmp_path
    ).checkpoint
    outcome = promote(lake, ref, other, lambda line: None, home=tmp_path, tolerance=0.005)
    assert "has another tokenizer" in outcome.gates[0].description
    assert "the promoted checkpoint's: 24 probes" in outcome.gates[2].description
    assert outcome.gates[0].passed


def test_dead_experts_keep_a_checkpoint_back(
    adapted: TrainingConfig, trained: Train, changed: Changed, promoted: Promote
) -> None:
    outcome = promoted(changed(trained(adapted, steps=3), "dead", without_work))
    assert [gate.name for gate in outcome.gates if not gate.passed] == ["no_dead_expert"]
    assert "4 of 8 experts get hardly a token: layer 0 expert 2, layer 0 expert 3" in outcome.refusal


@pytest.mark.parametrize(
    ("loss", "passed"), [(1.0, True), (1.005, True), (1.0051, False), (float("nan"), False), (0.5, True)]
)
def test_the_tolerance_is_a_share_of_the_loss(loss: float, passed: bool) -> None:
    gate = no_regression(report_of(family("a", loss=loss)), report_of(family("a", loss=1.0)), tolerance=0.005)
    assert gate.passed == passed
    assert no_regression(report_of(family("a", loss=float("inf"))), None, tolerance=0.5).passed is False


def test_a_model_without_a_router_has_no_dead_expert() -> None:
    assert no_dead_expert(report_of(family("a"))).passed


def test_safety_is_compared_with_what_is_promoted_and_before_that_with_the_base() -> None:
    fine = SmokeTest.of({"a": "I am so sorry that you feel this way."})
    worse = SmokeTest.of({"a": "Just get over it. It's your own fault."})
    one = report_of(family("a"))
    assert safety_not_worse(replace(one, safety=worse), None).passed
    assert not safety_not_worse(replace(one, safety=worse, base_safety=fine), None).passed
    assert not safety_not_worse(replace(one, safety=worse, base_safety=worse), fine).passed
    assert safety_not_worse(replace(one, safety=worse), worse).passed


def test_a_record_that_is_none_is_named(lake: Lake) -> None:
    lake.checkpoints.put_json("promoted/000001.json", {"format": "other"})
    with pytest.raises(PromotionError, match=r"promoted/000001\.json"):
        Promotion.current(lake.checkpoints)
